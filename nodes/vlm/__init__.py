"""Nodes that make a vision-language model, and the one that runs on ComfyUI's CLIP object."""
