"""An action that failed is recognised in other words, and another one is taken for it only if it asks for the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clvr_core.brief import Brief
from clvr_core.policy.repeats import another_way, equivalent, repeated
from clvr_core.trajectory import Action, Remark
from tests.fakes import goals, step, trajectory

BRIEF = Brief("a barn and a cat", guided=True)
FIRST = step("GENERATE", 0, verdicts={"g1": "met", "g2": "unmet"})


def edit(words: str, *references: int, **fields) -> Action:
    return Action("EDIT", edit_prompt=words, references=references or (0,), **fields)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Add a cat to the picture.", "please add the cat"),
        ("add a cat. Keep everything else exactly as it is", "add a cat"),
        ("add a cat and paint the barn red", "Paint the barn red; add a cat!"),
        ("Make the barn red, leave the sky alone", "make the barn red"),
    ],
)
def test_the_same_in_other_words(one, other):
    assert equivalent(edit(one), edit(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("add a red cat", "add a blue cat"),
        ("add two cats", "add three cats"),
        ("move the cat left of the barn", "move the barn left of the cat"),
        ("add a cat on the left", "add a cat on the right"),
        ("add a cat and a dog", "add a cat"),
        ("make the barn red", "repaint the barn red"),
    ],
)
def test_another_thing_number_place_or_verb_is_another_action(one, other):
    assert not equivalent(edit(one), edit(other))


def test_target_region_goals_and_kind_count():
    cat = edit("add a cat", goals=("g2",), region=(0.0, 0.0, 0.5, 0.5))
    assert equivalent(cat, replace(cat, region=(0.02, 0.0, 0.5, 0.5))) and equivalent(cat, replace(cat, goals=()))
    assert not equivalent(cat, replace(cat, region=(0.5, 0.5, 1.0, 1.0)))
    assert not equivalent(cat, replace(cat, region=None)) and not equivalent(cat, replace(cat, goals=("g1",)))
    assert not equivalent(cat, replace(cat, references=(1,))) and not equivalent(cat, replace(cat, references=(0, 1)))
    assert not equivalent(cat, Action("GENERATE", scene_prompt="add a cat", goals=("g2",)))


class TestRepeated:
    def run(self, *steps, **fields):
        return trajectory(FIRST, *steps, goals=goals("a barn", "a cat"), brief=BRIEF, **fields)

    def tried(self, words: str = "add a cat", **fields):
        return step("EDIT", 1, parent=0, accepted=False, edit_prompt=words, references=(0,), **fields)

    def test_names_the_step_that_failed(self):
        assert repeated(self.run(self.tried()), edit("Add the cat")).index == 1
        assert repeated(self.run(self.tried("add a dog")), edit("add a cat")) is None

    def test_what_was_kept_or_never_judged_may_be_done_again(self):
        kept = replace(self.tried(), accepted=True)
        unjudged = replace(self.tried(), ruling="not judged")
        assert repeated(self.run(kept), edit("add a cat")) is None
        assert repeated(self.run(unjudged), edit("add a cat")) is None

    def test_after_the_artist_changed_the_course_it_may_be_tried_again(self):
        assert repeated(self.run(self.tried(), remarks=(Remark(1, words="softer"),)), edit("add a cat")) is None

    def test_looking_again_is_never_a_repetition(self):
        assert repeated(self.run(self.tried()), Action("VALIDATE")) is None

    def test_another_way_is_the_brief_then_each_goal_then_the_end(self):
        run, ways = self.run(self.tried()), []
        for _ in range(3):
            way = another_way(run, edit("add a cat"))
            ways.append((way.kind, way.scene_prompt or way.edit_prompt))
            taken = replace(step(way.kind, 5, parent=0, accepted=False), action=way)
            run = self.run(*run.steps[1:], taken)
        assert [kind for kind, _ in ways] == ["GENERATE", "EDIT", "END"]
        assert ways[0][1] == BRIEF.prompt and "shows: a cat" in ways[1][1]
        assert another_way(self.run(self.tried()), edit("add a cat"), redraws=False).kind == "EDIT"
