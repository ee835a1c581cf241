"""Variants of a loop are arms: a strategy and options."""

from __future__ import annotations

import pytest

from clvr_core.errors import BadInput
from clvr_core.evaluation.arms import Job, Way
from clvr_core.evaluation.generate import Order
from clvr_core.evaluation.plot import style_of
from clvr_core.evaluation.variants import OPTIONS, STROKES, base_of, options_of, policy_of
from clvr_core.fleet.output import Disk
from clvr_core.models.registry import Models
from clvr_core.policy.strokes import Strokes
from clvr_core.stickers import CANVAS
from tests.stickers.oracle import OracleExecutor, load_vlm


def test_options_are_fields_of_the_brief():
    assert options_of("oneshot") == {} and base_of("director+no-grid") == "director"
    assert options_of("clvr", guided=False) == {"guided": False} and options_of("clvr+guided", False) == {
        "guided": True
    }
    assert options_of("clvr") == {"guided": True} and options_of("clvr+unguided") == {"guided": False}
    assert options_of("clvr+trace") == {"guided": True, "conditioning": "trace"}
    assert options_of("director+no-rollback+no-grid") == {"guided": True, "rollback": False, "candidates": 1}
    assert set(OPTIONS) == {
        "instruction",
        "summary",
        "trace",
        "guided",
        "unguided",
        "conversation",
        "no-rollback",
        "no-grid",
    }


def test_the_ablations_of_strokes_change_its_policy():
    assert policy_of("strokes") is None and policy_of("clvr+trace") is None
    assert policy_of("strokes+varied") == Strokes(text=False) and options_of("strokes+varied") == {"guided": True}
    assert policy_of("strokes+planner-only") == Strokes(text=False, picture=False)
    assert options_of("strokes+planner-only+guided") == {"rollback": False, "guided": True}
    assert set(STROKES) == {"planner-only", "inspector-only", "text-only", "additions", "varied"}
    with pytest.raises(BadInput, match="unknown option 'varied'"):
        options_of("clvr+varied")


@pytest.mark.parametrize(
    ("arm", "message"),
    [("clvr+warp", "unknown option 'warp'; the options are"), ("oneshot+trace", "oneshot takes no options; only clvr")],
)
def test_what_is_no_variant_is_refused(arm, message):
    with pytest.raises(BadInput, match=message):
        options_of(arm)
    with pytest.raises(BadInput, match=message):
        Order(arm)


def test_a_variant_has_the_colour_of_its_loop_and_a_line_of_its_own():
    colour, line, label = style_of("clvr+trace")
    assert (colour, line, label) == (style_of("clvr")[0], ":", "clvr, trace")


def test_an_evaluation_draws_a_variant(tmp_path):
    job = Job("one", "a red cat and two blue cars", 1)
    way = Way(
        "clvr+no-rollback", Models(load_vlm(), OracleExecutor(), CANVAS, CANVAS), Disk(tmp_path / "runs"), rounds=2
    )
    (made,) = way.make([job])
    assert made.record["met"] and not way._session(job).brief.rollback
    traced = Way("clvr+trace", way.models, Disk(tmp_path / "traced"))
    assert traced._session(job).brief.conditioning == "trace"


def test_an_ablation_is_gone_on_with_by_its_own_policy(tmp_path):
    job = Job("one", "a red cat and two blue cars", 1)
    way = Way(
        "strokes+inspector-only",
        Models(load_vlm(), OracleExecutor(), CANVAS, CANVAS),
        Disk(tmp_path / "runs"),
        rounds=3,
    )
    (made,) = way.make([job])
    first = way._session(job)
    first.advance()
    assert made.record["met"] and first.trajectory.steps[0].action.scene_prompt == job.prompt
