"""The merge nodes: from file to file, and as patches on loaded models."""
