"""Briefs from a List in a real ComfyUI: one run a line, cancelled in the middle and gone on with, and read again when all is done."""

from __future__ import annotations

import json

from clvr_core.run.run_folder import BEST
from tests.comfy.graphs import SCRIPTED, cancelled, drawn, go, in_one, left_by, over, runs, told

STEP = "stub: step"
ROUNDS = 3
"""Drawings that each brief takes: a goal is met with each."""
BRIEFS = [(f"{SCRIPTED}, {name}", seed) for name, seed in (("one", 941), ("two", 942), ("three", 943))]
SLOW = {"tokens": 2, "token_seconds": 0.02}


def listed(briefs=BRIEFS) -> dict:
    """The loop in one node, for each brief of a list."""
    text = "\n".join(json.dumps({"prompt": prompt, "seed": seed}) for prompt, seed in briefs)
    prompt = in_one(0, script=SLOW)
    prompt["9"] = {"class_type": "CLVR_BriefList", "inputs": {"briefs": text, "file": "none", "seed": 0}}
    prompt["2"]["inputs"] |= {"prompt": ["9", 0], "seed": ["9", 1]}
    return prompt


def test_a_cancelled_list_goes_on_where_it_was(comfy):
    _, begun = cancelled(comfy, listed(), STEP, ROUNDS + 2)
    first, second = begun
    assert told(first).outcome.met and (first / BEST).exists() and told(second).outcome is None
    whole, half, before = left_by(first), drawn(second), over(comfy, STEP)
    assert 1 <= len(half) < ROUNDS
    entry = go(comfy, listed())
    assert over(comfy, STEP) - before == 2 * ROUNDS - len(half), "nothing that was drawn is drawn again"
    *_, third = runs(comfy)
    assert left_by(first) == whole and half.items() < drawn(second).items() and third not in begun
    for folder, (prompt, seed) in zip((first, second, third), BRIEFS):
        run = told(folder)
        assert (run.brief.prompt, run.brief.seed, run.outcome.met, len(run.steps)) == (prompt, seed, True, ROUNDS)
    assert len(entry["outputs"]["3"]["images"]) == 3

    files, before = [left_by(folder) for folder in (first, second, third)], over(comfy, STEP)
    comfy.forget()  # what the server remembers of the prompt, as a restart does
    again = go(comfy, listed([*BRIEFS[::-1], (BRIEFS[0][0], 944)]))
    assert over(comfy, STEP) - before == ROUNDS, "only the brief that is new is drawn"
    assert [left_by(folder) for folder in (first, second, third)] == files
    assert len(again["outputs"]["3"]["images"]) == 4
