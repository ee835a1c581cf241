"""The nodes that make a vision-language model, and ComfyUI's CLIP behind one."""
