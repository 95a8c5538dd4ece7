"""Developer tools: training, benchmarks, and the sources of workflows, thumbnails and pictures."""
