"""Reports what was decided, done and measured: the typed report, its JSON, tables and HTML pages."""
