"""Image files: reading, writing, color profiles, metadata, and files that appear whole or not at all."""
