"""Nodes that make an executor, and the executor that samples with ComfyUI's models."""
