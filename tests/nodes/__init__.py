"""Tests of nodes/ without ComfyUI. Importing this package makes the pack importable as `clvr_pack`."""

from . import pack

__all__ = ["pack"]
