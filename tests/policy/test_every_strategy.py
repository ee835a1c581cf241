"""Each strategy says all of itself: whoever adds one is told here what is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from clvr_core.brief import STRATEGIES, Brief, Budget, Goal, Strategy
from clvr_core.controller.prompts import TEMPLATES, action_text
from clvr_core.evaluation.arms import ARMS
from clvr_core.evaluation.plot import STYLE
from clvr_core.policy import BASELINES, LOOPS, POLICIES, strategies_text
from clvr_core.run.forecast import forecast
from clvr_core.trajectory import Route, Trajectory

LOCALES = Path(__file__).parents[2] / "locales"
GOALS = (Goal("g1", "a barn", "global"), Goal("g2", "a cat"), Goal("g3", "the cat is left of the barn", "layout"))


def test_a_brief_takes_every_strategy_and_no_other():
    assert tuple(POLICIES) == STRATEGIES == get_args(Strategy)
    assert {*LOOPS, *BASELINES} == set(STRATEGIES) and not {*LOOPS} & {*BASELINES}


@pytest.mark.parametrize("name", STRATEGIES)
class TestEveryStrategy:
    def test_declares_what_other_rooms_need(self, name):
        policy = POLICIES[name]
        assert policy.name == name and policy.label and policy.hint
        assert policy.calls >= 1 and policy.grid >= 1
        assert re.fullmatch(r"\d{4}\.\d{4,5}", policy.paper) or not policy.loops

    def test_has_a_prompt_text_if_it_asks_the_controller(self, name):
        style = f"strategy_{name}"
        assert (style in TEMPLATES) is POLICIES[name].loops
        text = action_text(Trajectory(Brief("x", name), GOALS), ("g1",), ("EDIT",), (), "")
        assert (TEMPLATES.text(style) in text) if POLICIES[name].loops else ("How I work" not in text)

    def test_names_only_prompt_texts_that_exist(self, name):
        policy, brief = POLICIES[name], Brief("x", name)
        stage = policy.directive(Trajectory(brief, GOALS, plan=policy.plan(brief, GOALS).batches)).stage
        assert not stage or stage in TEMPLATES

    def test_plans_by_a_route(self, name):
        plan = POLICIES[name].plan(Brief("x", name), GOALS)
        assert plan.route in get_args(Route) and plan.route and plan.gate.startswith(plan.route)

    def test_has_a_forecast(self, name):
        guess = forecast(Brief("x", name, budget=Budget(rounds=3)), [])
        assert guess.calls >= 1 and guess.rounds == (3 if POLICIES[name].loops else 1)

    def test_has_a_curve_and_an_arm(self, name):
        colour, line, label = STYLE[name]
        assert re.fullmatch("#[0-9a-f]{6}", colour) and label == POLICIES[name].label and name in ARMS
        assert [other for other in STYLE if STYLE[other][0] == colour] == [name], "two curves of one colour"
        assert line == ("-" if POLICIES[name].loops else "--")

    @pytest.mark.parametrize("language", sorted(path.name for path in LOCALES.iterdir()))
    def test_is_named_in_every_language(self, name, language):
        nodes = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
        tooltips = [node["inputs"]["strategy"]["tooltip"] for node in nodes.values() if "strategy" in node["inputs"]]
        assert len(tooltips) == 3 and all(name in tooltip for tooltip in tooltips), "regenerate the locales"
        assert language != "en" or set(tooltips) == {strategies_text()}
