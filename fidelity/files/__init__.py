"""Image files: reading, atomic writing, color profiles and metadata."""
