from __future__ import annotations

import pytest

from clvr_core.brief import Brief, Goal
from clvr_core.checklist import Tally, goals_from, lines_of
from clvr_core.errors import BadInput
from clvr_core.policy import policy_for, rules
from tests.fakes import step, trajectory
from tests.run.script import END, edit, generate, play, scripted


def test_a_line_is_a_goal():
    first, second = goals_from("a barn\n\n  a cat on its roof  \n")
    assert (
        first == Goal("g1", "a barn", check="Does the picture show this: a barn?")
        and second.text == "a cat on its roof"
    )


def test_marks_say_kind_and_need_in_any_order():
    goals = goals_from('[nice] [text] a sign "OPEN"\n[layout][must] left of it\n[global] dusk')
    assert [(goal.kind, goal.need, goal.text) for goal in goals] == [
        ("text", "nice", 'a sign "OPEN"'),
        ("layout", "must", "left of it"),
        ("global", "must", "dusk"),
    ]


def test_words_in_brackets_further_on_are_words():
    assert goals_from("a label that reads [sale]")[0].text == "a label that reads [sale]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[maybe] a cat", r"line 1 is marked \[maybe\]; the marks are \[global\]"),
        ("a barn\n[nice]", "line 2 has a mark and no words"),
        ("w" * 401, "line 1 has 401 characters"),
        ("a\n" * 41, "41 lines; at most 40"),
    ],
    ids=["mark", "no words", "long", "many"],
)
def test_what_cannot_be_judged_is_refused(text, message):
    with pytest.raises(BadInput, match=message):
        goals_from(text)


def test_written_and_read_again_a_list_is_the_same():
    goals = goals_from('[nice] [text] a sign "OPEN"\na barn\n[global] dusk')
    assert goals_from(lines_of(goals)) == goals
    assert lines_of([Goal("g1", "two\nlines")]) == "two lines"


class TestNeed:
    goals = goals_from("a barn\n[nice] a cat")

    def test_a_run_that_misses_a_nice_goal_has_met_the_brief(self):
        end = play(scripted([generate(), *[edit()] * 3], dict.fromkeys(range(4), "mu")), goals=self.goals)
        assert end.outcome.met and len(end.steps) > 1, "and it tried"

    def test_one_that_misses_a_must_has_not(self):
        end = play(scripted([generate(), *[edit()] * 3], dict.fromkeys(range(4), "um")), goals=self.goals)
        assert not end.outcome.met

    def test_the_controller_may_end_with_a_nice_goal_open(self):
        end = play(scripted([generate(), END], {0: "mu"}), goals=self.goals)
        assert end.outcome.reason == "END: every goal that must holds" and len(end.steps) == 2 and end.outcome.met

    def test_where_nothing_must_all_is_asked_for(self):
        goals = goals_from("[nice] a barn\n[nice] a cat")
        told = trajectory(step(canvas=0, verdicts={"g1": "met", "g2": "unmet"}), goals=goals)
        assert not rules.satisfied(told, told.steps[0])
        assert not policy_for(Brief("x")).final_gate(told).accepted


def test_a_goal_that_is_nice_to_have_is_counted_by_itself():
    goals = [{"id": "g1", "need": "must"}, {"id": "g2", "need": "nice"}]
    step = {"verdicts": [{"goal": "g1", "state": "met"}, {"goal": "g2", "state": "unmet"}], "accepted": True}
    told = Tally([{"event": "planned", "goals": goals}])
    assert told.words(step) == "1 of 1 must-have goals met, 0 of 1 nice to have, kept"
    told.read({"event": "remarked", "goals": goals[:1]})
    assert told.words(step | {"verdicts": step["verdicts"][:1]}) == "1 of 1 goals met, kept"
