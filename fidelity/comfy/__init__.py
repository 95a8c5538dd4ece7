"""The client of ComfyUI's HTTP API, and the workflow graphs it sends."""
