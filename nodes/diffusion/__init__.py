"""Tiled diffusion, restoration guidance and diffusion passes for ComfyUI."""
