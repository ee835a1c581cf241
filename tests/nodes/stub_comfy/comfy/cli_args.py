from __future__ import annotations

from types import SimpleNamespace

from _missing import missing

__getattr__ = missing(__name__)

args = SimpleNamespace(disable_metadata=False)
