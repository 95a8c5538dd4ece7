"""What is done to an image, one step a module. Steps take and return images and know nothing of files or hosts."""
