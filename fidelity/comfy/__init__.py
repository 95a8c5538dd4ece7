"""A client for ComfyUI's HTTP API, and the workflow graphs it sends."""
