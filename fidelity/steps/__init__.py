"""The processing steps, one per module. Steps take and return images and know nothing of files or hosts."""
