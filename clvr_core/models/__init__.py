"""Models by name, file or preset: how they are configured, loaded, placed in memory and shared."""

from .registry import SHAPES, Models, load_models

__all__ = ["SHAPES", "Models", "load_models"]
