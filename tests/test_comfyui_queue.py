"""What of a brief goes into a workflow, and which files and servers are refused before anything is queued."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from clvr_core import cli
from clvr_core.batch import Job
from clvr_core.brief import Brief, Budget, Goal
from clvr_core.comfyui_queue import ComfyQueue, paint_there, prompt_for, read_workflow
from clvr_core.errors import BadInput
from clvr_core.run.reading import JOURNAL, read_trajectory
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.run_models import RunModels
from clvr_core.run.session import Session, drive
from tests.fakes import FakeExecutor
from tests.run.script import generate, scripted
from tests.servers import Said, serving

WORKFLOWS = sorted((Path(__file__).parents[1] / "workflows" / "api").glob("*.json"))
ONE_NODE, BY_NODES = WORKFLOWS[:2]


def changed_by(path, brief, **more):
    """The inputs of the only node that the brief changes, and the node as it was."""
    workflow = read_workflow(path)
    before = json.dumps(workflow)
    graph = prompt_for(workflow, brief, **more)
    (number,) = (number for number in graph if graph[number] != workflow[number])
    assert json.dumps(workflow) == before
    return graph[number]["inputs"], workflow[number]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_brief_goes_into_every_shared_workflow_and_the_rest_stays(path):
    inputs, node = changed_by(path, Brief("two cats", "director", 7, budget=Budget(rounds=3), candidates=2))
    assert [inputs[name] for name in ("prompt", "strategy", "seed", "rounds", "candidates", "review")] == [
        "two cats",
        "director",
        7,
        3,
        2,
        0,
    ]
    kept = node["inputs"].keys() - inputs.keys() | {name for name in ("vlm", "executor", "model") if name in inputs}
    assert all(inputs[name] == node["inputs"][name] for name in kept)


def test_limits_and_judging_go_into_generate_and_are_refused_by_the_one_node():
    brief = Brief("x", evidence=True, budget=Budget(tolerance=None, evaluations=9))
    inputs, _ = changed_by(BY_NODES, brief, depth=2)
    assert [inputs[name] for name in ("evidence", "tolerance", "evaluations", "depth")] == [True, 0.0, 9, 2]
    assert "depth" not in changed_by(BY_NODES, Brief("x"))[0]
    for wrong, more in ((brief, {}), (Brief("x", rollback=False), {}), (Brief("x"), {"depth": 2})):
        with pytest.raises(BadInput, match="cannot be given to CLVR Quick"):
            prompt_for(read_workflow(ONE_NODE), wrong, **more)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"goals": (Goal("g1", "a cat"),)}, "goals cannot be given to ComfyUI"),
        ({"estimate": True}, "estimate cannot be given"),
        ({"conditioning": "trace"}, "conditioning cannot be given"),
        ({"budget": Budget(seconds=3.0)}, "seconds cannot be given"),
    ],
)
def test_what_the_node_has_no_input_for_is_refused(change, says):
    with pytest.raises(BadInput, match=says):
        prompt_for(read_workflow(WORKFLOWS[0]), replace(Brief("x"), **change))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "cannot be read"),
        ('{"nodes": [], "links": []}', "is not a workflow in API format"),
        ("{}", "is not a workflow in API format"),
        ('{"1": {"class_type": "SaveImage", "inputs": {}}}', "has 0 nodes Generate in a Loop or CLVR Quick"),
    ],
)
def test_a_file_that_is_no_workflow_is_refused(tmp_path, text, says):
    (tmp_path / "w.json").write_text(text)
    with pytest.raises(BadInput, match=says):
        read_workflow(tmp_path / "w.json")


@pytest.mark.parametrize(
    ("answer", "says"), [(Said({}), "has no node CLVR_Generate"), (Said(status=404), "no ComfyUI answers at")]
)
def test_an_address_without_a_comfyui_that_has_this_pack_is_refused(tmp_path, capsys, answer, says):
    (tmp_path / "a.txt").write_text("a cat\n")
    with serving(lambda asked: answer) as server:
        words = ["batch", str(tmp_path / "a.txt"), "--out", str(tmp_path / "out"), "--comfyui", server.url]
        assert cli.main(words) == cli.BAD_INPUT and "belong together" in capsys.readouterr().err and not server.asked
        assert cli.main([*words, "--workflow", str(WORKFLOWS[0])]) == cli.BAD_INPUT
    assert says in capsys.readouterr().err and not (tmp_path / "out").exists()


def served(asked, prompt_id="p"):
    """A ComfyUI that takes any prompt, and answers that it has failed."""
    if asked.path.startswith("/v1/object_info"):
        return Said({"CLVR_Generate": {}})
    if asked.path == "/v1/prompt":
        return Said({"prompt_id": prompt_id})
    if asked.path.startswith("/v1/history"):
        return Said({} if prompt_id == "lost" else {prompt_id: {"status": {"status_str": "error", "messages": []}}})
    return Said({"queue_running": [], "queue_pending": []})


@pytest.mark.parametrize(
    ("prompt_id", "state", "says"),
    [("p", "failed", "does not say why"), ("lost", "stopped", "does not know the prompt any more")],
)
def test_a_prompt_that_failed_or_was_lost_is_a_result_with_the_reason(tmp_path, prompt_id, state, says):
    with serving(lambda asked: served(asked, prompt_id)) as server:
        jobs = [Job("a", Brief("a cat"))]
        (result,) = paint_there(jobs, ComfyQueue(server.url), read_workflow(WORKFLOWS[0]), tmp_path / "out", 1)
    assert result.state == state and says in result.reason


def test_a_run_is_fetched_whole_and_not_asked_for_again(tmp_path):
    """The server of the test has the run that a session made, and answers as the pack's routes do."""
    budget = Budget(rounds=2)
    there = RunFolder.create(tmp_path / "there")
    drive(
        Session(
            Brief("a cat", seed=3, budget=budget), RunModels(scripted([generate()], {0: "mmm"}), FakeExecutor()), there
        )
    )

    def answer(asked):
        parts = urlsplit(asked.path)
        query = dict(parse_qsl(parts.query))
        if parts.path == "/v1/history/p":
            return Said({"p": {"status": {"status_str": "success"}, "outputs": {"3": {"clvr_run": ["there of mine"]}}}})
        if parts.path.startswith("/v1/clvr/"):
            assert query["run"] == "there of mine"
            if parts.path == "/v1/clvr/canvas":
                return Said(there.canvas_path(int(query["canvas"])).read_bytes())
            lines = (there.path / JOURNAL).read_text("utf-8").splitlines()
            return Said({"total": len(lines), "lines": lines})
        return served(asked)

    jobs, out = [Job("a", Brief("a cat", seed=3, budget=budget))], tmp_path / "out"
    with serving(answer) as server:
        queue, workflow = ComfyQueue(server.url), read_workflow(WORKFLOWS[0])
        (result,) = paint_there(jobs, queue, workflow, out, 1)
        assert result.state in ("met", "unmet") and read_trajectory(out / "a") == read_trajectory(there.path)
        assert {path.name for path in (out / "a").glob("*.png")} == {path.name for path in there.path.glob("*.png")}
        asked = len(server.asked)
        assert paint_there(jobs, queue, workflow, out, 1) == [result] and len(server.asked) == asked
        with pytest.raises(BadInput, match="is a run of another brief"):
            paint_there([Job("a", Brief("a dog"))], queue, workflow, out, 1)
        more = [Job("a", replace(jobs[0].brief, budget=Budget(rounds=5)))]
        assert paint_there(more, queue, workflow, out, 1) == [result], "with more rounds it is asked for again"
        assert len(server.asked) > asked
        (there.canvas_path(0)).write_bytes((there.canvas_path(0)).read_bytes()[:-40])
        (failed,) = paint_there(jobs, queue, workflow, tmp_path / "other", 1)
    assert (
        failed.state == "failed" and "missing or damaged" in failed.reason and not (tmp_path / "other" / "a").exists()
    )
