"""The merge nodes."""
