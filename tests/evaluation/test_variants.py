"""Variants of a loop are arms: a strategy and options."""

from __future__ import annotations

import pytest

from clvr_core.errors import BadInput
from clvr_core.evaluation.arms import Job, Way
from clvr_core.evaluation.generate import Order
from clvr_core.evaluation.plot import style_of
from clvr_core.evaluation.variants import OPTIONS, base_of, options_of
from clvr_core.models.registry import Models
from clvr_core.shapes import load_vlm
from tests.shapes.oracle import RenderExecutor


def test_options_are_fields_of_the_brief():
    assert options_of("clvr") == {} and base_of("director+no-grid") == "director"
    assert options_of("clvr+trace") == {"conditioning": "trace"}
    assert options_of("director+no-rollback+no-grid") == {"rollback": False, "candidates": 1}
    assert set(OPTIONS) == {"instruction", "summary", "trace", "guided", "conversation", "no-rollback", "no-grid"}


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
    job = Job("one", "a red circle and two blue squares", 1)
    way = Way("clvr+no-rollback", Models(load_vlm(), RenderExecutor(), 96, 96), tmp_path / "runs", rounds=2)
    (made,) = way.make([job])
    assert made.record["met"] and not way._session(job).brief.rollback
    traced = Way("clvr+trace", way.models, tmp_path / "traced")
    assert traced._session(job).brief.conditioning == "trace"
