"""A server that is started anew, and one without diffusers: every node but those that draw with it works."""

from __future__ import annotations

import pytest

from clvr_core.run.run_folder import BEST, JOURNAL
from tests.comfy.graphs import begun_by, go, graph, in_one, left_by, looped, over, runs, told
from tests.comfy.server import error_of
from tests.comfy.test_hostile import whole


def test_without_diffusers_all_nodes_are_there(comfy, bare):
    named = [{name for name in server.get("/object_info") if name.startswith("CLVR_")} for server in (comfy, bare)]
    assert named[0] == named[1] != set()


def test_without_diffusers_the_loop_the_files_and_the_view_work(bare):
    entry = go(bare, whole(181))
    assert entry["outputs"]["8"]["images"] and entry["outputs"]["22"]["images"] and entry["outputs"]["21"]["images"]


def test_the_embedded_models_say_what_they_lack(bare):
    said = error_of(bare.run(graph(seed=182)))
    assert "diffusers" in said and "requirements.txt" in said


@pytest.mark.parametrize(("make", "seed"), [(looped, 183), (in_one, 184)])
def test_after_a_restart_of_the_server_a_run_goes_on(comfy, bare, make, seed):
    """Of the first server only the folder of runs is known to the second."""
    folder = begun_by(comfy, make(seed, rounds=1))
    first, before = left_by(folder), over(bare, "stub: step")
    go(bare, make(seed, rounds=2))
    assert over(bare, "stub: step") == before + 1 and len(told(folder).steps) == 2
    assert left_by(folder)[JOURNAL].startswith(first[JOURNAL]) and left_by(folder)[BEST] != first[BEST]
    folders = runs(comfy)
    go(bare, make(seed, rounds=2))
    assert over(bare, "stub: step") == before + 1 and runs(comfy) == folders
