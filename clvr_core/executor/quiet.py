"""Loading in silence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quietly() -> Iterator[None]:
    """
    Hide the progress bars of diffusers and transformers, since small weights load at once, and what diffusers logs of
    a file that is missing: BadInput says it in one sentence.
    """
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    shown = [library for library in (diffusers, transformers) if library.is_progress_bar_enabled()]
    level = diffusers.get_verbosity()
    for library in shown:
        library.disable_progress_bar()
    diffusers.set_verbosity(diffusers.CRITICAL)
    try:
        yield
    finally:
        diffusers.set_verbosity(level)
        for library in shown:
            library.enable_progress_bar()
