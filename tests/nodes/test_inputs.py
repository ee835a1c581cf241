"""From widgets to a brief, a start picture and a run in one node."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch
from clvr_pack.nodes import ClvrExtension
from clvr_pack.nodes.host.pictures import as_image, as_pictures
from clvr_pack.nodes.host.sockets import ExecutorHandle
from clvr_pack.nodes.loop import inputs
from clvr_pack.nodes.loop.start_image import start_from_image, what_is_lost

from clvr_core.brief import Brief
from clvr_core.errors import BadInput
from clvr_core.storage.png import read_png
from tests.fakes import FakeVlm, grey
from tests.nodes.graph import Graph, Patient, recorded, scripted, settings
from tests.nodes.pack import NODES


def generate(vlm, executor, workflow: object = None, **changed) -> tuple:
    made = {"vlm": vlm, "executor": executor, **settings(**changed)}
    graph = Graph({"1": {"class_type": "CLVR_Generate", "inputs": made}}, workflow and {"workflow": workflow})
    return graph.run("1")


class TestBrief:
    def test_0_stands_for_no_value(self, executor):
        brief = inputs.brief_of("x", executor)
        assert (brief.candidates, brief.budget.evaluations) == (None, None) and (brief.width, brief.height) == (64, 64)
        brief = inputs.brief_of("x", executor, candidates=3, evaluations=40, met=0.9, unmet=0.1)
        assert (brief.candidates, brief.budget.evaluations, brief.budget.met) == (3, 40, 0.9)

    def test_a_link_cannot_bring_more_rounds_than_the_widget_allows(self, executor):
        assert inputs.brief_of("x", executor, rounds=10_000).budget.rounds == inputs.MAX_ROUNDS

    def test_goals_of_ones_own_are_a_line_each(self, executor):
        assert [goal.text for goal in inputs.brief_of("x", executor, goals="one\n\ntwo").goals] == ["one", "two"]

    def test_what_is_out_of_bounds_is_refused(self, executor):
        for wrong in ({"met": 0.2, "unmet": 0.5}, {"strategy": "none"}, {"judging": "none"}):
            with pytest.raises(BadInput):
                inputs.brief_of("x", executor, **wrong)

    def test_the_executor_may_refuse_a_prompt(self):
        def refuse(prompt: str) -> None:
            raise BadInput(f"cannot read {prompt!r}")

        with pytest.raises(BadInput, match="cannot read 'x'"):
            inputs.brief_of("x", ExecutorHandle(Patient(), 64, 64, refuse))

    @pytest.mark.parametrize(
        ("prompt", "words"), [("  ", "prompt is empty; say in words"), ("x" * 100_000, "prompt has 100,000 characters")]
    )
    def test_a_prompt_is_checked_before_it_is_queued(self, prompt, words):
        for node in ("CLVR_Brief", "CLVR_Generate"):
            assert words in NODES[node].validate_inputs(prompt=prompt) and NODES[node].validate_inputs() is True
            names = NODES[node].validate_inputs(prompt="x", reference_names="x" * 100_000)
            assert names == "reference_names has 100,000 characters; at most 20,000 are read"
        assert "goals has" in NODES["CLVR_Brief"].validate_inputs(prompt="x", goals="x" * 100_000)

    def test_widgets_have_the_defaults_of_the_brief(self):
        defaults = {each.id: each.options.get("default") for each in NODES["CLVR_Generate"].define_schema().inputs}
        brief = Brief("x")
        assert (defaults["strategy"], defaults["judging"], defaults["seed"]) == (
            brief.strategy,
            brief.judging,
            brief.seed,
        )
        assert (defaults["met"], defaults["unmet"]) == (brief.budget.met, brief.budget.unmet)


class TestStartImage:
    def test_a_picture_that_fits_stays_as_it_is(self, executor):
        picture = np.random.default_rng(1).integers(0, 256, (48, 32, 3), np.uint8)
        brief, start = start_from_image(as_image(picture), Brief("x"), executor)
        assert np.array_equal(start, picture) and (brief.width, brief.height) == (32, 48)

    def test_a_larger_one_is_scaled_down_and_cut_to_what_can_be_drawn(self, executor):
        _, start = start_from_image(torch.zeros(2, 300, 200, 3), Brief("x"), executor)
        assert max(start.shape[:2]) <= 64 and all(side % 16 == 0 for side in start.shape[:2])
        _, fixed = start_from_image(torch.zeros(1, 300, 200, 3), Brief("x"), ExecutorHandle(Patient(), 64, 64, len))
        assert fixed.shape == (64, 64, 3)

    def test_that_it_was_scaled_down_is_said_on_the_node_and_in_the_summary(self, host, executor):
        given = {"vlm": scripted(), "executor": executor, "image": torch.zeros(1, 300, 200, 3), **settings(rounds=1)}
        graph = Graph(
            {"1": {"class_type": "CLVR_Generate", "inputs": given}, "2": {"class_type": "CLVR_Brief", "inputs": given}}
        )
        words = "warning: image has 200 x 300 pixels, and was scaled down to 48 x 64"
        assert words in graph.run("1")[2].splitlines()[-1]
        graph.run("2")
        assert [node for node, text in host.server.texts if words in text] == ["1", "2"]
        small = torch.zeros(1, 48, 32, 3)
        assert not what_is_lost(small, start_from_image(small, Brief("x"), executor)[1]) and not what_is_lost(
            None, None
        )

    def test_without_one_the_run_begins_from_nothing(self, executor):
        brief = Brief("x")
        assert start_from_image(None, brief, executor) == (brief, None)

    def test_a_run_judges_it_first_and_then_edits_it(self, executor):
        image, run, _ = generate(scripted(), executor, image=as_image(grey(20, 64, 64)))
        first = run.trajectory.steps[0]
        assert run.trajectory.outcome.met and first.action.kind not in ("GENERATE", "EDIT")
        assert (
            all(request.references for request in executor.executor.requests) and as_pictures(image)[0][9, 9, 0] == 30
        )


class TestGenerate:
    def test_the_best_picture_the_run_and_a_sentence_come_out(self, host, executor):
        image, run, summary = generate(scripted(), executor)
        assert as_pictures(image)[0][9, 9, 0] == 30 and summary.startswith("3 of 3 goals met in 3 steps")
        assert recorded(run.folder) == run.trajectory
        assert summary == host.texts[-1] and "round 1 of 6, 1 of 3 goals met" in host.texts

    def test_the_same_inputs_are_the_same_run_and_draw_nothing(self, executor):
        first = generate(scripted(), executor)[1]
        drawn = len(executor.executor.requests)
        assert generate(scripted(), executor)[1].folder == first.folder
        assert len(executor.executor.requests) == drawn
        other = ExecutorHandle(executor.executor, 64, 64, executor.check, "other weights", 16)
        assert generate(scripted(), other)[1].folder != first.folder

    def test_pictures_carry_the_workflow_that_drew_them(self, executor):
        workflow = {"nodes": [{"id": 1}]}
        run = generate(scripted(), executor, workflow)[1]
        _, texts = read_png(run.folder / "canvas-000.png")
        assert "workflow" in texts and workflow["nodes"][0]["properties"] == {"clvr_run": run.folder.name}
        other = {"nodes": [{"id": 1}], "version": 2}
        generate(scripted(), executor, other)
        assert '"version": 2' in read_png(run.folder / "best.png")[1]["workflow"]

    def test_cancel_ends_the_run_between_two_steps_and_it_goes_on_later(self, host, executor):
        vlm = scripted()
        ask = vlm.decide

        def cancel_after_the_first(images, questions):
            host.memory.interrupted = len(executor.executor.requests) == 2
            return ask(images, questions)

        vlm.decide = cancel_after_the_first
        with pytest.raises(host.Cancelled):
            generate(vlm, executor)
        host.memory.interrupted = False
        assert generate(scripted(), executor)[1].trajectory.outcome.met and len(executor.executor.requests) == 3

    def test_a_run_without_a_picture_is_an_error_that_says_what_to_raise(self, executor):
        with pytest.raises(BadInput, match=r"no picture was drawn: .*; raise that limit"):
            generate(scripted(), executor, evaluations=1)

    def test_a_judge_that_does_not_answer_is_a_warning_in_the_summary(self, executor):
        vlm = scripted()
        silent = FakeVlm(vlm._replies, lambda images, questions: [None] * len(questions), "vlm")
        assert "warning: the judge gave no answer to" in generate(silent, executor, rounds=1)[2]


class TestExtension:
    def test_it_has_every_node_once_and_adds_its_routes(self, host):
        asyncio.run(ClvrExtension().on_load())
        paths = {path for _, path in host.server.routes.handlers}
        assert {"/clvr/runs", "/clvr/lines", "/clvr/canvas", "/clvr/forecast", "/clvr/reviews"} <= paths
        listed = asyncio.run(ClvrExtension().get_node_list())
        assert len(NODES) == len(listed) > 20 and all(name.startswith("CLVR_") for name in NODES)
