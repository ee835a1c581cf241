"""HTTP routes that the pack adds to ComfyUI's server: runs for the viewer, reviews, forecasts."""
