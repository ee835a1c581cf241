"""Names that every system can have, of all that a brief or an id can become the name of a file or a folder of."""

from __future__ import annotations

import json

import pytest

from clvr_core.batch import read_jobs
from clvr_core.brief import Brief
from clvr_core.errors import BadInput
from clvr_core.evaluation.arms import Job, Way
from clvr_core.evaluation.benchmarks import BENCHMARKS
from clvr_core.evaluation.store import Arm
from clvr_core.fleet.output import Disk
from clvr_core.models.registry import Models
from clvr_core.storage.names import is_portable
from tests.fakes import FakeExecutor, FakeVlm

DEVICES = ["con", "PRN", "aux.txt", "nul.tar.gz", "NUL .x", "com1", "lpt9.png", "COM\u00b2", "conin$", "CONOUT$"]
OTHERS = ["a:b", "a/b", "a\\b", 'a"b', "a|b", "a?", "a*", "a<b", "a\nb", "a\0", "a.", "a ", ""]


@pytest.mark.parametrize("name", [*DEVICES, *OTHERS])
def test_what_windows_cannot_have_is_not_portable(name):
    assert not is_portable(name)


@pytest.mark.parametrize("name", ["console", "a.con", "com", "com10", "nul-1", "0001-ab12cd34", "a b", ".x", "\u732b"])
def test_anything_else_is(name):
    assert is_portable(name)


@pytest.mark.parametrize("name", ["con", "aux.txt", "com1", "lpt9.x"])
def test_an_id_that_is_a_device_is_refused_before_anything_is_drawn(tmp_path, name):
    (tmp_path / "briefs").write_text(json.dumps({"prompt": "a cat", "id": name}))
    with pytest.raises(BadInput, match="cannot name a folder here or on Windows"):
        read_jobs(tmp_path / "briefs", Brief("any"))
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": "a cat", "id": name}))
    with pytest.raises(BadInput, match="id is "):
        BENCHMARKS["prompts"].read(tmp_path)
    with pytest.raises(BadInput, match="which no folder can have here or on Windows"):
        Arm(tmp_path, name).agree({})


@pytest.mark.parametrize(
    "prompt", ["a cat", "con", 'what? "a|b" <c>: d*e\\f/g', "x" * 3000, "\u732b\ud83d\ude00 ", "nul."]
)
def test_the_folder_of_a_brief_without_an_id_is_portable_whatever_it_says(tmp_path, prompt):
    (tmp_path / "briefs").write_text(json.dumps(prompt))
    (job,) = read_jobs(tmp_path / "briefs", Brief("any"))
    assert is_portable(job.id) and len(job.id) < 20


@pytest.mark.parametrize("name", ["0001-0", "tag/0001-0", "con.x-0", "a:b-0", "a?-0"])
def test_so_is_the_folder_of_a_benchmarks_run_and_a_usual_name_stays_itself(tmp_path, name):
    way = Way("clvr", Models(FakeVlm(), FakeExecutor(), 8, 8), Disk(tmp_path))
    way._session(Job(name, "a cat", 0)).folder.close()
    (folder,) = tmp_path.iterdir()
    assert is_portable(folder.name)
    assert (folder.name == name.replace("/", "-")) is is_portable(name.replace("/", "-"))
