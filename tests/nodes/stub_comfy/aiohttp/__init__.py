"""Not ComfyUI's but its server's: requests and responses."""
