"""Models by name, file or preset: how they are configured, loaded, placed in memory and shared."""

from .registry import Models, load_models

__all__ = ["Models", "load_models"]
