"""The loop drawn by hand: Brief, Loop Start, a body, Loop End."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest

from clvr_core.folder import BEST, JOURNAL, RunFolder, trajectory_from
from clvr_core.report import read_png
from clvr_core.trajectory import timeless
from tests.comfy.server import Comfy, error_of
from tests.comfy.test_continuing import BRIEF, cancelled_after_a_round, drawn
from tests.comfy.test_generate import graph, runs

pytestmark = pytest.mark.weights


def loop(first: int = 1, **inputs) -> dict:
    """A whole loop; its node ids begin at `first`."""
    models, brief, start, reason, execute, verify, end, save, say = (str(first + place) for place in range(9))
    settings = {"prompt": BRIEF, "strategy": "strokes", "seed": 1, "rounds": 3, "patience": 50, "candidates": 0, "evaluations": 0} | inputs
    vlm, executor = [models, 0], [models, 1]
    return {
        models: {"class_type": "CLVR_ShapesModels", "inputs": {"judge_error": 0.0}},
        brief: {"class_type": "CLVR_Brief", "inputs": {"vlm": vlm, "executor": executor, **settings}},
        start: {"class_type": "CLVR_LoopStart", "inputs": {"trajectory": [brief, 0]}},
        reason: {"class_type": "CLVR_Reason", "inputs": {"trajectory": [start, 1], "vlm": vlm}},
        execute: {"class_type": "CLVR_ExecuteStep", "inputs": {"trajectory": [reason, 0], "executor": executor}},
        verify: {"class_type": "CLVR_Verify", "inputs": {"trajectory": [reason, 0], "vlm": vlm, "candidates": [execute, 0]}},
        end: {"class_type": "CLVR_LoopEnd", "inputs": {"flow": [start, 0], "trajectory": [verify, 0]}},
        save: {"class_type": "SaveImage", "inputs": {"images": [end, 0], "filename_prefix": f"loop-{first}"}},
        say: {"class_type": "PreviewAny", "inputs": {"source": [end, 2]}},
    }


def go(comfy: Comfy, prompt: dict) -> dict:
    entry = comfy.run(prompt)
    assert entry["status"]["status_str"] == "success", error_of(entry)
    return entry


def told(folder: Path):
    return trajectory_from(RunFolder.open(folder).lines)


def left_by(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def begun_by(comfy: Comfy, prompt: dict) -> Path:
    before = runs(comfy)
    go(comfy, prompt)
    (folder,) = (path for path in runs(comfy) if path not in before)
    return folder


def saved(comfy: Comfy, entry: dict, node: str):
    (image,) = entry["outputs"][node]["images"]
    return read_png(comfy.base / "output" / image["filename"])[0]


@pytest.mark.parametrize("strategy", ["clvr", "director", "strokes"])
def test_the_graph_makes_the_run_that_the_one_node_makes(comfy, strategy):
    by_hand = begun_by(comfy, loop(seed=31, strategy=strategy))
    in_one = begun_by(comfy, graph(prompt=BRIEF, seed=31, strategy=strategy, patience=50))
    one, other = (timeless(told(folder)) for folder in (by_hand, in_one))
    assert one == other and len(one.steps) > 1
    pictures = [{path.name: path.read_bytes() for path in folder.glob("*.png")} for folder in (by_hand, in_one)]
    assert pictures[0] == pictures[1] and BEST in pictures[0]


def test_the_best_picture_and_every_round_come_out(comfy):
    before = runs(comfy)
    entry = go(comfy, loop(seed=32))
    (folder,) = (path for path in runs(comfy) if path not in before)
    assert np.array_equal(saved(comfy, entry, "8"), read_png(folder / BEST)[0])
    trajectory = told(folder)
    assert trajectory.outcome.reason in "".join(entry["outputs"]["9"]["text"])
    shown = {image["filename"] for node in entry["outputs"].values() for image in node.get("images", ())}
    assert {f"canvas-{step.chosen:03d}.png" for step in trajectory.steps} <= shown


def test_with_a_larger_budget_no_round_is_drawn_or_judged_again(comfy):
    folder = begun_by(comfy, loop(seed=33, rounds=1))
    before, lines = drawn(folder), (folder / JOURNAL).read_bytes()
    go(comfy, loop(seed=33, rounds=3))
    assert before.items() < drawn(folder).items() and (folder / JOURNAL).read_bytes().startswith(lines)
    whole = begun_by(comfy, graph(prompt=BRIEF, strategy="strokes", seed=33, rounds=3, patience=50))
    assert timeless(told(folder)) == timeless(told(whole))
    assert (folder / BEST).read_bytes() == (whole / BEST).read_bytes()


def test_after_a_cancel_it_goes_on(comfy):
    folder = cancelled_after_a_round(comfy, loop(seed=34, rounds=50))
    first = (folder / "canvas-000.png").stat().st_mtime_ns
    go(comfy, loop(seed=34, rounds=4))
    go(comfy, loop(seed=34, rounds=50))
    assert (folder / "canvas-000.png").stat().st_mtime_ns == first and (folder / BEST).exists()


def inverted(prompt: dict) -> dict:
    """With another body: what is drawn is turned into its negative before it is judged."""
    prompt = copy.deepcopy(prompt) | {"99": {"class_type": "ImageInvert", "inputs": {"image": ["5", 0]}}}
    prompt["6"]["inputs"]["candidates"] = ["99", 0]
    return prompt


def test_another_body_makes_another_run_and_leaves_the_first_alone(comfy):
    plain = begun_by(comfy, loop(seed=35, rounds=2))
    before = left_by(plain)
    other = begun_by(comfy, inverted(loop(seed=35, rounds=2)))
    assert left_by(plain) == before and told(other).steps[0].action == told(plain).steps[0].action
    first, second = (read_png(folder / "canvas-000.png")[0] for folder in (plain, other))
    assert np.array_equal(first, 255 - second)
    kept, folders = (drawn(plain), drawn(other)), runs(comfy)
    go(comfy, inverted(loop(seed=35, rounds=4)))
    go(comfy, loop(seed=35, rounds=4))
    assert set(runs(comfy)) == set(folders) and all(told(folder).brief.budget.rounds == 4 for folder in (plain, other))
    assert kept[0].items() <= drawn(plain).items() and kept[1].items() <= drawn(other).items()


def test_two_bodies_may_hang_on_one_brief(comfy):
    prompt = loop(seed=41, rounds=2)
    text = json.dumps({name: prompt[name] for name in "3456789"})
    moved = json.loads(re.sub(r'\["([3-7])", ', r'["6\1", ', text))
    moved["6"]["inputs"]["candidates"] = ["99", 0]
    second = {f"6{name}": node for name, node in moved.items()}
    second["99"] = {"class_type": "ImageInvert", "inputs": {"image": ["65", 0]}}
    before = runs(comfy)
    entry = go(comfy, prompt | second)
    one, other = (folder for folder in runs(comfy) if folder not in before)
    assert told(one).outcome and told(other).outcome
    assert not np.array_equal(saved(comfy, entry, "8"), saved(comfy, entry, "68"))
    assert sorted(
        np.array_equal(saved(comfy, entry, node), read_png(folder / BEST)[0]) for folder in (one, other) for node in ("8", "68")
    ) == [
        False,
        False,
        True,
        True,
    ]


def test_two_loops_in_one_graph_do_not_touch_each_other(comfy):
    before = runs(comfy)
    entry = go(comfy, loop(1, seed=36, rounds=2) | loop(50, seed=36, rounds=3, strategy="clvr"))
    one, other = (told(folder) for folder in runs(comfy) if folder not in before)
    assert {one.brief.strategy, other.brief.strategy} == {"strokes", "clvr"} and one.outcome and other.outcome
    assert saved(comfy, entry, "8").shape == saved(comfy, entry, "57").shape == (96, 96, 3)


def test_a_loop_may_stand_in_the_body_of_another(comfy):
    """The inner loop draws the candidates of the outer one."""
    before = runs(comfy)
    prompt, inner = loop(1, seed=37, rounds=2), loop(50, seed=38, rounds=1)
    for name in ("57", "58"):
        del inner[name]
    inner["51"]["inputs"]["prompt"] = ["4", 1]
    inner["51"]["inputs"]["strategy"] = "oneshot"
    del prompt["5"]
    prompt["6"]["inputs"]["candidates"] = ["56", 0]
    prompt["2"]["inputs"] |= {"strategy": "clvr", "prompt": "a large red circle at the top left"}
    go(comfy, prompt | inner)
    fresh = [told(folder) for folder in runs(comfy) if folder not in before]
    outer = [run for run in fresh if run.brief.seed == 37]
    inside = [run for run in fresh if run.brief.seed == 38]
    assert len(outer) == 1 and outer[0].outcome
    drawn_from = {step.action.scene_prompt or step.action.edit_prompt for step in outer[0].steps if step.action.draws}
    assert {run.brief.prompt for run in inside} == drawn_from and all(run.outcome for run in inside)


def changed(change) -> dict:
    prompt = copy.deepcopy(loop(seed=39, rounds=2))
    change(prompt)
    return prompt


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda graph: graph["7"]["inputs"].update(trajectory=["3", 1]), "moved the run on"),
        (lambda graph: graph["6"]["inputs"].update(candidates=["98", 0]) or graph.update(BATCH), "candidates has 2 pictures"),
    ],
)
def test_a_body_that_cannot_go_round_is_refused_in_words(comfy, change, says):
    entry = comfy.run(changed(change))
    assert entry["status"]["status_str"] == "error" and says in error_of(entry)


BATCH = {"98": {"class_type": "RepeatImageBatch", "inputs": {"image": ["5", 0], "amount": 2}}}


def test_goals_written_by_hand_take_the_place_of_the_models(comfy):
    folder = begun_by(comfy, loop(seed=40, rounds=1, goals="a large red circle at the top left\n\n  a small blue square  \n"))
    assert [goal.text for goal in told(folder).goals] == ["a large red circle at the top left", "a small blue square"]
