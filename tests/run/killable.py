"""Runs of the embedded world that kill themselves with SIGKILL at a chosen write. A script, so that pytest itself is never forked.

    killable.py OUT JOB...

Each job runs in its own process. `whole`: start in OUT/whole and finish. `N`: start in OUT/N and die before the N-th call of fsync or
replace. `N-torn`: the same, with only half of the journal's last line on the disk. `again-N`: start in OUT/again-N, die likewise at the
N-th such call, torn every other time, go on, die again, until it ends. Prints one JSON object: the writes of the last process of
each job that ended, as `journal N` with the number of its lines, file, replace or folder, and the number of processes that were killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from clvr_core.brief import Brief, Budget
from clvr_core.run.run_folder import JOURNAL, RunFolder
from clvr_core.run.session import RunModels, Session, drive, resume
from tests.stickers.oracle import SIZE, OracleExecutor, load_vlm

PROMPT = (
    "a red cat at the top left, two blue cars, a large green bird in the bottom row, two yellow buses and a pink horse."
)
NEWLINE = b"\n"
BRIEF = Brief(f"{PROMPT} the red cat is left of the pink horse.", seed=5, **SIZE, budget=Budget(rounds=8))


VLM = load_vlm()
"""One for all the runs of a process: what it has looked at once it need not look at again."""


def models():
    return VLM, OracleExecutor(fault=0.3)


def watch_writes(die_at: int | None, torn: bool) -> list[str]:
    """From here on fsync and replace are recorded, and the process dies before call number `die_at`, counted from 0.

    Nothing waits for the disk: a killed process loses nothing that it has written.
    """
    writes: list[str] = []
    replace = os.replace

    def record(write: str, journal: int | None = None) -> None:
        if len(writes) == die_at:
            if torn and journal is not None:
                _halve_the_last_line(journal)
            os.kill(os.getpid(), signal.SIGKILL)
        writes.append(write)

    def watched_fsync(file: int) -> None:
        path = os.readlink(f"/proc/self/fd/{file}")
        if path.endswith(JOURNAL):
            record(f"journal {Path(path).read_bytes().count(NEWLINE)}", file)
        else:
            record("folder" if os.path.isdir(path) else "file")

    def watched_replace(source, target) -> None:
        record("replace")
        replace(source, target)

    os.fsync, os.replace = watched_fsync, watched_replace
    return writes


def _halve_the_last_line(file: int) -> None:
    data = Path(os.readlink(f"/proc/self/fd/{file}")).read_bytes()
    begin = data.rfind(b"\n", 0, -1) + 1
    os.ftruncate(file, begin + (len(data) - begin) // 2)


def run(folder: Path) -> None:
    if (folder / JOURNAL).exists():
        drive(resume(RunFolder.open(folder), RunModels(*models())))
    else:
        drive(Session(BRIEF, RunModels(*models()), RunFolder.create(folder)))


def in_a_process(folder: Path, die_at: int | None, torn: bool) -> list[str] | None:
    """The writes; None if the process was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            writes = watch_writes(die_at, torn)
            run(folder)
            os.write(writing, json.dumps(writes).encode())
            status = 0
        finally:
            sys.excepthook(*sys.exc_info()) if status else None
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    assert status == 0, f"{folder.name} ended with {status}"
    return json.loads(said)


def perform(out: Path, job: str) -> tuple[list[str] | None, int]:
    if job == "whole":
        return in_a_process(out / job, None, torn=False), 0
    if not job.startswith("again-"):
        return in_a_process(out / job, int(job.removesuffix("-torn")), job.endswith("-torn")), 1
    deaths = 0
    while (writes := in_a_process(out / job, int(job.removeprefix("again-")), torn=deaths % 2 == 1)) is None:
        deaths += 1
    return writes, deaths


if __name__ == "__main__":
    drive(
        Session(BRIEF, RunModels(*models()))
    )  # in memory, so that the processes forked from here begin with all looks taken
    print(json.dumps({job: perform(Path(sys.argv[1]), job) for job in sys.argv[2:]}))
