"""Checkpoints on the disk: safetensors headers, layouts of names, dtypes, fp8 scales, manifests."""
