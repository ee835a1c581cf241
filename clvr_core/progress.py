"""Progress bars of the commands, drawn on stderr by tqdm. Nothing is drawn where stderr is not a terminal."""

from __future__ import annotations

import math
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


class ProgressBar:
    """One bar. It appears at the first `show` and ends with the `with`.

    unit: what is counted, such as `round`.
    label: words in front of the bar.
    scaled: write large counts as 1.2G.
    keep: leave the bar on the terminal at the end.
    done: the count shown last.
    """

    def __init__(self, unit: str, label: str = "", *, scaled: bool = False, keep: bool = False) -> None:
        self.unit, self.label, self.scaled, self.keep = unit, label, scaled, keep
        self.done = 0
        self._bar: tqdm | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, done: int, total: int | None = None, remark: str = "") -> None:
        """Draw the count `done`, of `total` if that is known, with a remark behind the bar."""
        self.done = done
        if not sys.stderr.isatty():
            return
        if self._bar is None:
            from tqdm import tqdm

            # With miniters 1 the time alone decides what is drawn; tqdm's own guess would leave a bar of uneven steps
            # behind.
            self._bar = tqdm(
                desc=self.label or None,
                total=total,
                initial=done,
                unit=self.unit,
                unit_scale=self.scaled,
                mininterval=0.05,
                miniters=1,
                file=sys.stderr,
                leave=self.keep,
            )
        self._bar.total = total
        if remark:
            self._bar.set_postfix_str(remark, refresh=False)
        self._bar.update(done - self._bar.n)


class Countdown:
    """Says on stderr what is waited for and for how long at most: on a terminal in one line that counts down,
    elsewhere in a line each minute. Any thread may call it."""

    EVERY = 60.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}

    def __call__(self, said: str, left: float) -> None:
        """Show the words, and the seconds `left`; no words end the line."""
        with self._lock:
            if sys.stderr.isatty():
                words = f"{said}; waits for it, {_clock(left)} at most"[:119] if said else ""
                print(f"\r{words}\x1b[K", end="", file=sys.stderr, flush=True)
            elif said and time.monotonic() - self._said.get(said, -math.inf) >= self.EVERY:
                self._said[said] = time.monotonic()
                print(f"{said}; waits for it, {_clock(left)} at most", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


countdown = Countdown()
"""The one that servers are waited for with, since a process has one stderr."""
