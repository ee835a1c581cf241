"""Dataclasses to JSON and back: nothing is lost, nothing unknown is in the way, and what is wrong is named by its field."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields, replace
from types import MappingProxyType

import pytest

from clvr_core.brief import SIDE, Brief, Budget, Goal, Reference
from clvr_core.protocols import DrawRequest
from clvr_core.records import ABSENT, from_json, to_json
from clvr_core.run import loop
from clvr_core.trajectory import (
    Action,
    Candidate,
    Change,
    Cost,
    EditCheck,
    Exchange,
    Finding,
    Outcome,
    Remark,
    Step,
    Trajectory,
    Verdict,
)
from clvr_core.world import world_named

GOAL = Goal("g1", 'a sign "\xdcber"', "text", "Is it?", 0.25, (0.0, 0.25, 0.5, 1.0), ("g2", "g3"), "nice", "ann")
REFERENCE = Reference("ann", "cd" * 32, "face")
COST = Cost({"draw": 1.5, "judge": 0.25}, 7, 3, 16, 2)
ACTION = Action("EDIT", "so far", "all of it", "this", (3, 1), ("g1",), (0.0, 0.0, 0.5, 1.0), 0.75, ("Is it red?",))
CANDIDATE = Candidate(4, "canvas-004.png", 2**62, "ab" * 32, 8, "canvas-004.safetensors")
FINDING = Finding("text", "no", 0.9, 'reads "OPNE"', ((0.1, 0.2, 0.3, 0.4),), (0.1, 0.2, 0.3, 0.4), 0.75)
VERDICT = Verdict("g1", "unsure", "too dark", 0.5, (FINDING,))
CHANGE = Change(0.25, 40.0, (1.0, -2.0, 0.5), 3.0, (1.5, 0.0), 1.01, 0.9, 0.75, ((0.0, 0.0, 0.5, 1.0),))
CHECK = EditCheck(False, 0.5, "the sky changed", CHANGE, Change(1.0), ("Is it red?",), (FINDING,))
EXCHANGE = Exchange("what now?", (1, 3), '{"kind":"END"}', True)
STEP = Step(3, ACTION, 1, (CANDIDATE,), 4, (VERDICT,), 0.5, CHECK, True, "kept", COST, "goals gained", (EXCHANGE,))
REMARK = Remark(3, "accept", "a moon", {"g1": "met"}, ("g2",), 1, "mask-003.png", "cd" * 32)
OUTCOME = Outcome("END", 4, True, "A/B", "end action")
BRIEF = Brief(
    "a sign",
    "director",
    2**63 - 1,
    64,
    32,
    Budget(1, 2, 3, 4.5, 5, 6, 0.7, 0.2, 2.5, 7),
    4,
    False,
    "trace",
    (GOAL,),
    "set",
    True,
    "ef" * 32,
    False,
    True,
    True,
    False,
    (REFERENCE,),
    True,
)
TRAJECTORY = Trajectory(
    BRIEF,
    (GOAL,),
    {"executor": "x"},
    (("g1",), ("g2", "g3")),
    "staged",
    (STEP,),
    1,
    4,
    OUTCOME,
    COST,
    ("careful",),
    prompts={"verifier": "2"},
    remarks=(REMARK,),
    route="staged",
)
RESULTS = (
    loop.Goals((GOAL,), "late", COST),
    loop.Chosen(ACTION, "cut", COST, ("no area",), (EXCHANGE,)),
    loop.Drawn((CANDIDATE,), COST),
    loop.Judgement(((VERDICT,), ()), (CHECK, EditCheck()), COST, 1, ACTION),
    loop.Compared(-1, COST),
    REMARK,
    loop.Compared(None),
)
FULL = (GOAL, BRIEF.budget, BRIEF, ACTION, CANDIDATE, VERDICT, CHANGE, CHECK, COST, STEP, OUTCOME, TRAJECTORY, *RESULTS)
BARE = (
    Goal("g", ""),
    Budget(),
    Brief("x"),
    Action("END"),
    Candidate(0, "", 0, ""),
    Verdict("g", "met"),
    Change(),
    EditCheck(),
    Cost(),
    Step(0, Action("END")),
    Outcome("", None, False),
    Trajectory(Brief("x")),
    loop.Goals(()),
    loop.Drawn(()),
    loop.Judgement((), ()),
)


def through_a_file(value):
    return from_json(type(value), json.loads(json.dumps(to_json(value), ensure_ascii=False)))


@pytest.mark.parametrize("value", [*FULL, *BARE], ids=lambda value: type(value).__name__)
def test_what_is_written_is_read_back_the_same(value):
    again = through_a_file(value)
    assert again == value and repr(again) == repr(value)


def test_every_record_of_a_run_is_covered_here():
    assert {type(value) for value in RESULTS} == set(loop.RESULTS.values())
    for value in FULL[:12]:
        defaults = [
            field.name
            for field in fields(value)
            if field.default is not MISSING and getattr(value, field.name) == field.default
        ]
        # A brief has one of fused and conversation.
        assert defaults in ([], ["schema"], ["fused"]), (type(value), defaults)


def test_costs_are_mappings_of_any_kind():
    cost = Cost(MappingProxyType({"draw": 1.5}), 1)
    assert through_a_file(cost) == Cost({"draw": 1.5}, 1)
    assert through_a_file(COST + COST) == Cost({"draw": 3.0, "judge": 0.5}, 14, 6, 32, 4)


def test_fields_at_their_default_are_not_written():
    assert to_json(Verdict("g1", "met")) == {"goal": "g1", "state": "met"}


@pytest.mark.parametrize("value", FULL, ids=lambda value: type(value).__name__)
def test_unknown_fields_are_passed_over(value):
    assert from_json(type(value), to_json(value) | {"from a later version": [1, {"x": None}]}) == value


@pytest.mark.parametrize("value", FULL, ids=lambda value: type(value).__name__)
def test_missing_fields_mean_what_they_always_meant_or_are_named(value):
    data = to_json(value)
    for field in fields(value):
        less = {key: item for key, item in data.items() if key != field.name}
        if field.default is MISSING and field.default_factory is MISSING:
            with pytest.raises(ValueError, match=rf"{type(value).__name__}\.{field.name} is missing"):
                from_json(type(value), less)
        else:
            default = field.default_factory() if field.default is MISSING else field.metadata.get(ABSENT, field.default)
            assert getattr(from_json(type(value), less), field.name) == default


def test_a_brief_without_a_size_is_of_the_embedded_world_and_a_record_without_one_of_the_world_before():
    brief = Brief("x")
    assert (brief.width, brief.height) == (SIDE, SIDE) == (world_named().canvas,) * 2
    assert DrawRequest("x", 0).width == DrawRequest("x", 0).height == SIDE
    before = replace(brief, width=96, height=96)
    assert to_json(brief) == {"prompt": "x", "width": SIDE, "height": SIDE, "budget": {}}
    assert from_json(Brief, {"prompt": "x"}) == before and to_json(before) == {"prompt": "x", "budget": {}}


@pytest.mark.parametrize(
    ("value", "data", "said"),
    [
        (GOAL, {"text": 3}, r"Goal\.text: expected str, found 3"),
        (GOAL, {"kind": "colour"}, r"Goal\.kind: 'colour' is none of global, local, text, layout"),
        (GOAL, {"kind": ["local"]}, r"Goal\.kind: \['local'\] is none of"),
        (GOAL, {"feasibility": "high"}, r"Goal\.feasibility: expected float, found 'high'"),
        (GOAL, {"feasibility": True}, r"Goal\.feasibility: expected float, found True"),
        (GOAL, {"feasibility": float("nan")}, r"Goal\.feasibility: expected a finite number"),
        (GOAL, {"feasibility": 10**400}, r"Goal\.feasibility: expected a finite number"),
        (GOAL, {"area": [0, 0, 1]}, r"Goal\.area: expected 4 values, found 3"),
        (GOAL, {"area": {"left": 0}}, r"Goal\.area: expected a list"),
        (GOAL, {"conflicts_with": "g2"}, r"Goal\.conflicts_with: expected a list, found 'g2'"),
        (GOAL, {"conflicts_with": ["g2", None]}, r"Goal\.conflicts_with\[1\]: expected str, found None"),
        (BRIEF, {"seed": 1.5}, r"Brief\.seed: expected int, found 1\.5"),
        (BRIEF, {"seed": False}, r"Brief\.seed: expected int, found False"),
        (BRIEF, {"final_ab": 1}, r"Brief\.final_ab: expected bool, found 1"),
        (BRIEF, {"budget": []}, r"Brief\.budget: expected an object"),
        (BRIEF, {"budget": {"rounds": "8"}}, r"Brief\.budget\.rounds: expected int"),
        (COST, {"seconds": [1]}, r"Cost\.seconds: expected an object"),
        (COST, {"seconds": {"draw": "long"}}, r"Cost\.seconds\.draw: expected float, found 'long'"),
        (COST, {"images": None}, r"Cost\.images: expected int, found None"),
        (STEP, {"action": {"kind": "PAINT"}}, r"Step\.action\.kind: 'PAINT' is none of GENERATE, EDIT, VALIDATE, END"),
        (
            STEP,
            {"verdicts": [{"goal": "g1", "state": "yes"}]},
            r"Step\.verdicts\[0\]\.state: 'yes' is none of met, unmet",
        ),
        (STEP, {"candidates": [{"canvas": "0"}]}, r"Step\.candidates\[0\]\.canvas: expected int, found '0'"),
        (TRAJECTORY, {"plan": [["g1"], "g2"]}, r"Trajectory\.plan\[1\]: expected a list"),
    ],
)
def test_a_wrong_type_is_named_by_its_field(value, data, said):
    with pytest.raises(ValueError, match=said):
        from_json(type(value), to_json(value) | data)


@pytest.mark.parametrize("data", [None, [], "x", 3])
def test_a_record_is_an_object(data):
    with pytest.raises(ValueError, match=r"there: expected an object"):
        from_json(Goal, data, "there")


def test_whole_numbers_become_the_floats_that_are_asked_for():
    box = from_json(Goal, {"id": "g1", "text": "x", "feasibility": 1, "area": [0, 0, 1, 1]})
    assert [type(value) for value in (box.feasibility, *box.area)] == [float] * 5


def test_a_found_value_is_quoted_only_in_part():
    with pytest.raises(ValueError) as error:
        from_json(Goal, {"id": "g1", "text": ["x" * 10_000]})
    assert len(str(error.value)) < 200


@dataclass(frozen=True)
class Anything:
    data: object = None


def test_what_is_no_record_is_left_as_it_is():
    assert to_json(Anything({"a": (1, [2.5, None])})) == {"data": {"a": [1, [2.5, None]]}}
