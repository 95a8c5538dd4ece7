"""The `fidelity` command, one file per subcommand."""
