"""What ComfyUI gives and takes: sockets, pictures, metadata, checks of inputs."""
