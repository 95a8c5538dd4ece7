"""The `fidelity` command, one file a sub-command."""
