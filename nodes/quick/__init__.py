"""The whole pack in one node: model files found by their names, loaded by ComfyUI's own loaders."""
