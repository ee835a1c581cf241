"""A data set by workers: that of one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from clvr_core.errors import BadInput
from clvr_core.fleet.processes import Processes
from clvr_core.synthesis.engine import Settings, synthesize, synthesize_on
from tests.synthesis.crews import Sources
from tests.synthesis.test_engine import PROMPTS


def files(out: Path) -> dict[str, bytes]:
    names = [path for path in sorted(out.rglob("*")) if path.is_file() and "runs" not in path.parts]
    return {str(path.relative_to(out)): path.read_bytes() for path in names if path.name != "decisions.jsonl"}


def test_workers_make_the_files_of_one_process_and_go_on_where_another_stopped(tmp_path):
    settings, said = Settings(together=3), []
    here = synthesize(
        tmp_path / "here", PROMPTS, Sources().load(), Sources(second=True).load(), settings, lambda line: None
    )
    given = PROMPTS, Processes(2, 2), Sources(), Sources(second=True), settings, said.append
    assert synthesize_on(tmp_path / "there", *given) == here
    assert files(tmp_path / "there") == files(tmp_path / "here") and len(said) == 4
    assert synthesize_on(tmp_path / "there", *given) == here and len(said) == 4, "nothing was left to do"


def test_what_a_worker_cannot_read_ends_the_command_with_its_words(tmp_path):
    source = Sources(unreadable=PROMPTS[0])
    with pytest.raises(BadInput, match="is not to be read"):
        synthesize_on(tmp_path, PROMPTS[:2], Processes(1, 1), source, Sources(second=True), Settings(together=1), print)
