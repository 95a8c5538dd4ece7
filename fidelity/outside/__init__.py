"""What lies outside the engine: files and reports. Only the command uses it, with the `standalone` extra."""
