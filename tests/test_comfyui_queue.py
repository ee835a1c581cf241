"""What of a brief goes into a workflow, and which files and servers are refused before anything is queued."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
from PIL import Image

from clvr_core import cli
from clvr_core.batch import Job, read_jobs
from clvr_core.brief import Brief as AnyBrief
from clvr_core.brief import Budget, Goal
from clvr_core.comfyui_queue import ASKED, EARLIER, ComfyQueue, paint_there, prompt_for, read_workflow
from clvr_core.errors import BadInput
from clvr_core.run.reading import JOURNAL, read_trajectory
from clvr_core.run.references import Given, with_references
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.run_models import RunModels
from clvr_core.run.session import Session, drive
from clvr_core.storage.png import read_png
from clvr_core.storage.png_encode import encode
from tests.fakes import FakeExecutor, FakeVlm, grey
from tests.run.script import generate, scripted
from tests.servers import Asked, Said, serving

Brief = partial(AnyBrief, guided=True)
"""As the command line makes it."""
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
    for wrong, more in ((brief, {}), (Brief("x", rollback=False), {}), (AnyBrief("x"), {}), (Brief("x"), {"depth": 2})):
        with pytest.raises(BadInput, match="cannot be given to CLVR Quick"):
            prompt_for(read_workflow(ONE_NODE), wrong, **more)


ANN, MUG = Given("ann", grey(130, 32, 32), "face"), Given("mug", grey(140, 32, 32), "product")


def test_references_are_loaded_as_one_batch():
    workflow = read_workflow(BY_NODES)
    graph = prompt_for(workflow, Brief("x"), references=[ANN, MUG])
    added = {name: node for name, node in graph.items() if name not in workflow}
    (node,) = (node["inputs"] for node in graph.values() if node["class_type"] == "CLVR_Generate")
    assert node["reference_names"] == "ann: face, mug: product" and node["references"][0] in added
    batch = graph[node["references"][0]]
    assert batch["class_type"] == "ImageBatch"
    files = [graph[batch["inputs"][name][0]]["inputs"]["image"] for name in ("image1", "image2")]
    assert len(set(files)) == 2 and all(file.startswith("clvr/") for file in files) and len(added) == 3
    (loader,) = (name for name in prompt_for(workflow, Brief("x"), references=[ANN]) if name not in workflow)
    assert prompt_for(workflow, Brief("x"), references=[ANN])[loader]["inputs"]["image"] == files[0]


@pytest.mark.parametrize(
    ("path", "given", "says"),
    [
        (BY_NODES, [ANN, replace(MUG, picture=grey(1, 16, 32))], "several sizes .ann 32 x 32, mug 16 x 32."),
        (ONE_NODE, [ANN], "references cannot be given to CLVR Quick"),
    ],
)
def test_references_that_have_no_place_there_are_refused(path, given, says):
    with pytest.raises(BadInput, match=says):
        prompt_for(read_workflow(path), Brief("x"), references=given)


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


def test_references_go_there_and_come_back_with_the_run(tmp_path):
    Image.fromarray(ANN.picture).save(tmp_path / "ann.png")
    lines = tmp_path / "a.jsonl"
    lines.write_text(json.dumps({"id": "a", "prompt": "a cat", "references": ["ann=ann.png:face"]}))
    jobs, out = read_jobs(lines, Brief("any", budget=Budget(rounds=1))), tmp_path / "out"
    asks = Brief("a cat", budget=Budget(rounds=1), goals=(Goal("g1", "a cat"),))
    brief, pictures = with_references(asks, [ANN])
    there = RunFolder.create(tmp_path / "there")
    vlm = FakeVlm(lambda messages: json.dumps(generate()), lambda images, questions: [0.9] * len(questions))
    drive(Session(brief, RunModels(vlm, FakeExecutor()), there, references=pictures))
    uploads = []

    def answer(asked):
        path = urlsplit(asked.path).path
        if path == "/v1/upload/image":
            uploads.append(asked.body)
            return Said(status=200 if len(uploads) > 1 else 403)
        if path == "/v1/history/p":
            return Said({"p": {"status": {"status_str": "success"}, "outputs": {"3": {"clvr_run": ["it"]}}}})
        if path == "/v1/clvr/canvas":
            return Said(there.canvas_path(0).read_bytes())
        if path == "/v1/clvr/lines":
            return Said({"lines": (there.path / JOURNAL).read_text("utf-8").splitlines()})
        return served(asked)

    with serving(answer, lambda path, headers, data: Asked(path, headers, data)) as server:
        queue, workflow = ComfyQueue(server.url), read_workflow(BY_NODES)
        (refused,) = paint_there(jobs, queue, workflow, out, 1)
        assert refused.state == "stopped" and "does not take the reference ann: 403" in refused.reason
        (result,) = paint_there(jobs, queue, workflow, out, 1)
        assert result.state in ("met", "unmet"), result.reason
        folder = json.loads(server.asked[-4].body)["prompt"]["clvr-reference-1"]["inputs"]["image"].rpartition("/")[0]
        assert all(part in uploads[1] for part in (encode(ANN.picture), b'name="subfolder"', folder.encode()))
        assert read_trajectory(out / "a") == read_trajectory(there.path)
        assert np.array_equal(read_png(out / "a" / "reference-ann.png")[0], ANN.picture)
        assert paint_there(jobs, queue, workflow, out, 1) == [result]
        note = out / "a" / ASKED
        asked_then = {name: value for name, value in json.loads(note.read_text()).items() if name not in EARLIER}
        note.write_text(json.dumps(asked_then))
        assert paint_there(jobs, queue, workflow, out, 1) == [result], "a run of before runs were guided stays as it is"
        Image.fromarray(MUG.picture).save(tmp_path / "ann.png")
        with pytest.raises(BadInput, match="is a run of another brief"):
            paint_there(jobs, queue, workflow, out, 1)
        (other,) = paint_there(jobs, queue, workflow, tmp_path / "other", 1)
    assert other.state == "failed" and "had other references than it was given" in other.reason
