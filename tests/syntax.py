"""Syntax trees of sources, for tests that look at the code."""

from __future__ import annotations

import ast
import gc


def tree_of(source: str) -> ast.Module:
    """Parse with the garbage collector held back.

    Python 3.11 counts the depth of all trees that are being built in one place. A finalizer that the collector calls
    meanwhile and that prints a traceback builds another one, for the marks under its lines, and the outer one then fails
    with `SystemError: AST constructor recursion depth mismatch`.
    """
    held = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        if held:
            gc.enable()
