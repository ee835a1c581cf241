"""Breaks the program at random, and counts what is lost by it: four campaigns in one table.

kill      a run is killed at a random moment, and so is what goes on with it, until one ends
cut       the journal of a finished run is cut at a random byte, and the run is gone on with
disk      the disk takes nothing more from a random write on, by each of its errors, or no file may grow beyond a random
          size; then the run is gone on with
replies   broken, cut, doubled and contradictory replies of a judge, in words, as probabilities and of a local model

A run has held if it ends with the same files as one that nothing happened to, to the byte, wall times aside. A reply has
held if each goal has the right verdict. Whatever is refused must be refused in a sentence. The exit status is 1 if
anything was lost; the table names the cases, which --seed and --case bring back.

python benchmarks/chaos.py [--seed 18] [--count 30] [--case N] [--only CAMPAIGN...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

from clvr_core.errors import BadInput
from clvr_core.run.run_folder import JOURNAL, RunFolder
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.vlm import server
from tests.faults import DISK, failing_disk, largest_file
from tests.run.killable import BRIEF, VLM
from tests.run.test_resume import left_by
from tests.stickers.oracle import OracleExecutor
from tests.vlm import test_hostile_replies as hostile

CAMPAIGNS = ("kill", "cut", "disk", "replies")
REPLIES = 100
"""Replies of each kind for each case of the other campaigns."""
DEATHS = 6
"""Times that one run is killed, at most."""


@dataclass
class Result:
    """lost: the number of each case that was lost, and what was wrong."""

    cases: int = 0
    lost: list[tuple[int, str]] = field(default_factory=list)
    seconds: float = 0.0


class Lost(Exception):
    """What was lost, in a sentence."""


def go_on(folder: Path) -> None:
    """Begin the run in the folder, or go on with it."""
    drive(Session(BRIEF, RunModels(VLM, OracleExecutor(fault=0.3)), RunFolder.reopen(folder)))


def compare(folder: Path, whole: dict[str, object]) -> None:
    found = left_by(folder)
    wrong = sorted(name for name in whole.keys() | found.keys() if whole.get(name) != found.get(name))
    if wrong:
        raise Lost(f"other than without the fault: {', '.join(wrong)}")


def killed_after(seconds: float, folder: Path) -> bool:
    """Go on with the run in a process of its own, and kill it after these seconds. Return whether that was before its
    end. Raises Lost if it ended otherwise than by that."""
    child = os.fork()
    if not child:
        status = 1
        try:
            go_on(folder)
            status = 0
        finally:
            if status:
                sys.excepthook(*sys.exc_info())
            os._exit(status)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.001)
    else:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status:
        raise Lost(f"the process ended with {status}")
    return False


def kill(chance: random.Random, folder: Path, span: float) -> None:
    """span: seconds of a whole run."""
    for _ in range(DEATHS):
        if not killed_after(chance.uniform(0, span), folder):
            break
    go_on(folder)


def cut(chance: random.Random, folder: Path, finished: Path) -> None:
    shutil.copytree(finished, folder)
    data = (folder / JOURNAL).read_bytes()
    place = chance.randrange(len(data) + 1)
    (folder / JOURNAL).write_bytes(data[:place])
    go_on(folder)


def disk(chance: random.Random, folder: Path, span: int, size: int) -> None:
    """span: flushes of a whole run. size: bytes of its largest file."""
    fault = (
        failing_disk(chance.choice(DISK), chance.randrange(span))
        if chance.random() < 0.5
        else largest_file(chance.randrange(size))
    )
    try:
        with fault:
            go_on(folder)
    except BadInput as error:
        if "\n" in str(error) or not str(error):
            raise Lost(f"refused in other words than a sentence: {error!r}") from error
    except Exception as error:
        raise Lost(f"ended in {type(error).__name__}: {error}") from error
    else:
        raise Lost("ended as if the disk had taken all of it")
    go_on(folder)


Harm = Callable[[random.Random, Path], None]
"""Harms a run in a folder that does not exist yet, and brings it to its end."""


def on_runs(name: str, seed: int, cases: Iterable[int], work: Path, whole: dict[str, object], harm: Harm) -> Result:
    result, started = Result(), time.monotonic()
    for number in cases:
        folder = work / f"{name}-{number}"
        result.cases += 1
        try:
            harm(random.Random(f"{seed} {name} {number}"), folder)
            compare(folder, whole)
        except Lost as error:
            result.lost.append((number, str(error)))
        except Exception as error:
            result.lost.append((number, f"{type(error).__name__}: {error}"))
        shutil.rmtree(folder, ignore_errors=True)
    result.seconds = time.monotonic() - started
    return result


def replies(seed: int, cases: Iterable[int]) -> Result:
    result, started = Result(), time.monotonic()
    for number in cases:
        chance, replayed = random.Random(f"{seed} replies {number}"), hostile.Replayed()
        with mock.patch.object(server.Client, "ask", replayed.__call__):
            kinds = (
                hostile.in_words(chance, replayed, REPLIES),
                hostile.by_logprobs(chance, replayed, REPLIES),
                hostile.in_this_process(chance, REPLIES),
            )
            for each in (each for kind in kinds for each in kind):
                result.cases += 1
                if each.judged != each.right:
                    result.lost.append((number, f"{each.class_}: {each.judged}, right {each.right}: {each.said[:200]}"))
    result.seconds = time.monotonic() - started
    return result


def campaigns(seed: int, cases: list[int], work: Path, only: set[str]) -> dict[str, Result]:
    finished = work / "whole"
    go_on(work / "once")  # what the models have looked at once they need not look at again
    started = time.monotonic()
    go_on(finished)
    span, whole = time.monotonic() - started, left_by(finished)
    flushes: list[int] = []
    with mock.patch.object(os, "fsync", flushes.append):
        go_on(work / "counted")
    size = max(path.stat().st_size for path in finished.iterdir())
    harms: dict[str, Harm] = {
        "kill": lambda chance, folder: kill(chance, folder, span),
        "cut": lambda chance, folder: cut(chance, folder, finished),
        "disk": lambda chance, folder: disk(chance, folder, len(flushes), size),
    }
    found = {name: on_runs(name, seed, cases, work, whole, harm) for name, harm in harms.items() if name in only}
    return found | ({"replies": replies(seed, cases)} if "replies" in only else {})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument(
        "--count", type=int, default=30, help="cases of each campaign; of replies, hundreds of each kind"
    )
    parser.add_argument("--case", type=int, help="only this case of each campaign")
    parser.add_argument("--only", nargs="+", choices=CAMPAIGNS, default=CAMPAIGNS, help="only these campaigns")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    cases = [options.case] if options.case is not None else list(range(options.count))
    with tempfile.TemporaryDirectory() as folder:
        found = campaigns(options.seed, cases, Path(folder), set(options.only))
    print("| campaign | cases | held | lost | seconds |\n|---|---|---|---|---|")
    for name, result in found.items():
        held = result.cases - len(result.lost)
        print(f"| {name} | {result.cases:,} | {held:,} | {len(result.lost)} | {result.seconds:.0f} |")
    for name, result in found.items():
        for number, what in result.lost[:5]:
            print(f"{name}, case {number}: {what}")
    if options.json:
        told = {"seed": options.seed, **{name: asdict(result) for name, result in found.items()}}
        options.json.write_text(json.dumps(told, indent=1))
    return int(any(result.lost for result in found.values()))


if __name__ == "__main__":
    sys.exit(main())
