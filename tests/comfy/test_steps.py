"""The loop drawn by hand: Brief, Loop Start, a body, Loop End."""

from __future__ import annotations

import copy
import json
import re

import numpy as np
import pytest

from clvr_core.run.run_folder import BEST, JOURNAL
from clvr_core.storage.png import read_png
from clvr_core.trajectory import timeless
from tests.comfy.graphs import BRIEF, begun_by, drawn, go, graph, in_one, left_by, loop, looped, runs, saved, told
from tests.comfy.server import error_of


def embedded(seed: int, **inputs) -> tuple[dict, dict]:
    return loop(seed=seed, **inputs), graph(prompt=BRIEF, seed=seed, patience=50, **inputs)


def scripted(seed: int, **inputs) -> tuple[dict, dict]:
    return looped(seed, candidates=0, **inputs), in_one(seed, candidates=0, **inputs)


def judged_in_one_reply(seed: int, **inputs) -> tuple[dict, dict]:
    return scripted(seed, fused=True, **inputs)


@pytest.mark.parametrize(
    ("make", "strategy"),
    [
        (judged_in_one_reply, "clvr"),
        pytest.param(embedded, "strokes", marks=pytest.mark.weights),
        *((scripted, strategy) for strategy in ("clvr", "director", "strokes", "best-of-n", "oneshot")),
    ],
)
def test_the_graph_makes_the_run_that_the_one_node_makes(comfy, make, strategy):
    by_hand, in_a_node = (begun_by(comfy, prompt) for prompt in make(31, strategy=strategy))
    one, other = (timeless(told(folder)) for folder in (by_hand, in_a_node))
    assert one == other and one.outcome and (len(one.steps) > 1 or strategy in ("best-of-n", "oneshot"))
    pictures = [{path.name: path.read_bytes() for path in folder.glob("*.png")} for folder in (by_hand, in_a_node)]
    assert pictures[0] == pictures[1] and BEST in pictures[0]


def test_with_a_larger_budget_no_round_is_drawn_or_judged_again(comfy):
    folder = begun_by(comfy, looped(33, rounds=1))
    before, lines = drawn(folder), (folder / JOURNAL).read_bytes()
    go(comfy, looped(33, rounds=3))
    assert before.items() < drawn(folder).items() and (folder / JOURNAL).read_bytes().startswith(lines)
    whole = begun_by(comfy, in_one(33, rounds=3))
    assert timeless(told(folder)) == timeless(told(whole))
    assert (folder / BEST).read_bytes() == (whole / BEST).read_bytes()


def inverted(prompt: dict) -> dict:
    """With another body: what is drawn is turned into its negative before it is judged."""
    prompt = copy.deepcopy(prompt) | {"99": {"class_type": "ImageInvert", "inputs": {"image": ["5", 0]}}}
    prompt["6"]["inputs"]["candidates"] = ["99", 0]
    return prompt


def test_another_body_makes_another_run_and_leaves_the_first_alone(comfy):
    plain = begun_by(comfy, looped(35, rounds=2))
    before = left_by(plain)
    other = begun_by(comfy, inverted(looped(35, rounds=2)))
    assert left_by(plain) == before and told(other).steps[0].action == told(plain).steps[0].action
    first, second = (read_png(folder / "canvas-000.png")[0] for folder in (plain, other))
    assert np.array_equal(first, 255 - second)
    kept, folders = (drawn(plain), drawn(other)), runs(comfy)
    go(comfy, inverted(looped(35, rounds=4)))
    go(comfy, looped(35, rounds=4))
    assert set(runs(comfy)) == set(folders) and all(told(folder).brief.budget.rounds == 4 for folder in (plain, other))
    assert kept[0].items() <= drawn(plain).items() and kept[1].items() <= drawn(other).items()


def test_two_bodies_may_hang_on_one_brief(comfy):
    prompt = looped(41, rounds=2)
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
        np.array_equal(saved(comfy, entry, node), read_png(folder / BEST)[0])
        for folder in (one, other)
        for node in ("8", "68")
    ) == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("make", [looped, in_one])
def test_how_it_is_judged_is_the_artists_choice(comfy, make):
    chosen = {"judging": "pairs", "evidence": True, "met": 0.97, "unmet": 0.5}
    run = told(begun_by(comfy, make(42, rounds=2, candidates=2, script={"goals": 2, "words": "a cat"}, **chosen)))
    brief, budget = run.brief, run.brief.budget
    assert {"judging": brief.judging, "evidence": brief.evidence, "met": budget.met, "unmet": budget.unmet} == chosen
    # The stub says 0.95 of a goal that is met, and 0.05 of one that is not.
    assert [(verdict.state, verdict.evidence) for verdict in run.steps[0].verdicts] == [
        ("unsure", "a cat"),
        ("unmet", "a cat"),
    ]
    assert not run.outcome.met


def test_thresholds_that_cross_are_refused_in_words(comfy):
    said = error_of(comfy.run(in_one(43, met=0.3, unmet=0.6)))
    assert "unmet is 0.6 and met is 0.3; they must satisfy" in said


def test_both_in_one_reply_saves_a_call_a_round(comfy):
    script = {"goals": 5}
    fused, apart = (
        told(begun_by(comfy, looped(44, strategy="clvr", fused=fused, script=script))) for fused in (True, False)
    )
    assert fused.outcome.met and apart.outcome.met
    assert [step.action.kind for step in fused.steps] == [step.action.kind for step in apart.steps]
    # The first action is chosen by itself; those of the edits come with the look at the canvas before. The last canvas
    # and the one-shot picture, which are said to meet every goal, are judged once more by probabilities.
    edits = sum(step.action.kind == "EDIT" for step in apart.steps)
    assert edits > 2 and fused.cost.vlm_calls == apart.cost.vlm_calls - edits + 2


def changed(change) -> dict:
    prompt = copy.deepcopy(looped(39, rounds=2))
    change(prompt)
    return prompt


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda graph: graph["7"]["inputs"].update(trajectory=["3", 1]), "moved the run on"),
        (
            lambda graph: graph["6"]["inputs"].update(candidates=["98", 0]) or graph.update(BATCH),
            "candidates has 2 pictures",
        ),
    ],
)
def test_a_body_that_cannot_go_round_is_refused_in_words(comfy, change, says):
    entry = comfy.run(changed(change))
    assert entry["status"]["status_str"] == "error" and says in error_of(entry)


BATCH = {"98": {"class_type": "RepeatImageBatch", "inputs": {"image": ["5", 0], "amount": 2}}}


def test_goals_written_by_hand_take_the_place_of_the_models(comfy):
    folder = begun_by(
        comfy, looped(40, rounds=1, goals="a large red circle at the top left\n\n  a small blue square  \n")
    )
    assert [goal.text for goal in told(folder).goals] == ["a large red circle at the top left", "a small blue square"]
