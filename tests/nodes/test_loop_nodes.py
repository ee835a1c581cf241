"""The loop as nodes: rounds, what is recorded, what is drawn again and what is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from clvr_pack.nodes.host.pictures import as_pictures
from clvr_pack.nodes.host.sockets import ExecutorHandle
from clvr_pack.nodes.host.stops import stop_after_round
from clvr_pack.nodes.loop import graph_session
from clvr_pack.nodes.loop.loop_nodes import another_round, between, names_of
from clvr_pack.nodes.loop.step_nodes import with_mask

from clvr_core.errors import BadInput
from clvr_core.protocols import DrawRequest
from tests.nodes.graph import Graph, Patient, loop, recorded, scripted, settings


def test_the_body_is_repeated_until_every_goal_holds(host, executor):
    graph = Graph(loop(scripted(), executor))
    image, run, summary = graph.run("end")
    steps = run.trajectory.steps
    assert [step.action.kind for step in steps] == ["GENERATE", "EDIT", "EDIT"] and run.trajectory.outcome.met
    assert graph.ran.count("CLVR_ExecuteStep") == 3 and graph.ran.count("CLVR_LoopEnd") == 3
    assert as_pictures(image)[0][5, 5, 0] == 30 and summary.startswith("3 of 3 goals met in 3 steps")
    assert recorded(run.folder) == run.trajectory
    assert (run.folder / "best.png").is_file() and (run.folder / "report.html").is_file()


def test_a_second_prompt_reads_the_record_and_draws_nothing(executor):
    first = Graph(loop(scripted(), executor))
    _, run, _ = first.run("end")
    drawn = len(executor.executor.requests)
    second = Graph(loop(scripted(), executor))
    assert second.run("end")[1].folder == run.folder
    assert len(executor.executor.requests) == drawn and "CLVR_ExecuteStep" not in second.ran


def test_more_rounds_go_on_with_the_run_and_draw_only_what_is_new(executor):
    short = Graph(loop(scripted(), executor, rounds=1)).run("end")[1]
    assert not short.trajectory.outcome.met and len(executor.executor.requests) == 1
    longer = Graph(loop(scripted(), executor, rounds=6)).run("end")[1]
    assert longer.folder == short.folder and longer.trajectory.outcome.met and len(executor.executor.requests) == 3


def test_another_judge_makes_a_run_of_its_own_from_where_it_judged(executor):
    prompt = loop(scripted(), executor)
    first = Graph(prompt).run("end")[1]
    prompt = loop(scripted(), executor)
    prompt["verify"]["inputs"]["vlm"] = scripted(name="another")
    second = Graph(prompt).run("end")[1]
    assert second.folder != first.folder and second.trajectory.outcome.met
    assert recorded(first.folder) == first.trajectory, "the first run stays as it was"


def test_nodes_of_ones_own_can_draw(executor):
    """Brief without an executor, and pictures that come from elsewhere."""
    brush, vlm = Patient(), scripted()
    prompt = loop(vlm, executor, width=32, height=32)
    del prompt["brief"]["inputs"]["executor"]
    prompt["execute"]["inputs"]["executor"] = ExecutorHandle(brush, 32, 32, lambda text: None)
    run = Graph(prompt).run("end")[1]
    assert run.trajectory.models["executor"] == "the graph" and run.trajectory.cost.evaluations == 0
    assert run.trajectory.outcome.met and len(brush.requests) == 3


def test_candidates_must_be_as_many_as_the_round_judges(executor):
    prompt = loop(scripted(), executor, candidates=2)
    prompt["verify"]["inputs"]["candidates"] = torch.zeros(5, 64, 64, 3)
    with pytest.raises(
        BadInput, match=r"candidates has 5 pictures, and this round judges [12]: give the sampler a batch"
    ):
        Graph(prompt).run("end")


def test_a_loop_that_does_not_move_on_is_an_error(executor):
    prompt = loop(scripted(), executor)
    prompt["end"]["inputs"]["trajectory"] = ["start", 1]
    with pytest.raises(BadInput, match="nothing between Loop Start and Loop End moved the run on"):
        Graph(prompt).run("end")
    prompt["end"]["inputs"]["flow"] = ["reason", 0]
    with pytest.raises(BadInput, match="flow of Loop End does not come from a Loop Start"):
        Graph(prompt).run("end")


def test_a_journal_that_was_cut_meanwhile_is_an_error(executor):
    graph = Graph(loop(scripted(), executor))
    run = graph.run("verify")[0]
    journal = run.folder / "trajectory.jsonl"
    journal.write_text(journal.read_text().split("\n")[0] + "\n")
    with pytest.raises(BadInput, match="is not the run that it was; run the graph anew"):
        graph.run("end")


def test_reason_says_the_action_in_words_pictures_and_a_mask(executor):
    graph = Graph(loop(scripted(), executor))
    _, prompt, scene, edit, canvas, references, mask, noise = graph.run("reason")
    assert "all things" in (prompt, scene) and canvas.max() == 0 and references.shape == (1, 64, 64, 3)
    assert (
        mask.shape == (1, 64, 64) and mask.min() == 1 and noise == executor.executor.requests[0].seed
        if (executor.executor.requests)
        else noise >= 0
    )
    graph.run("end")
    again = next(node for node, made in graph.nodes.items() if made["class_type"] == "CLVR_Reason" and node != "reason")
    _, prompt, _, edit, canvas, *_ = graph.run(again)
    assert "add the missing thing" in edit and edit in prompt and as_pictures(canvas)[0][5, 5, 0] == 10


def test_cancel_ends_the_loop_where_it_is(host, executor):
    graph = Graph(loop(scripted(), executor))
    graph.run("reason")
    host.memory.interrupted = True
    with pytest.raises(host.Cancelled):
        graph.run("end")
    host.memory.interrupted = False
    assert Graph(loop(scripted(), executor)).run("end")[1].trajectory.outcome.met


def test_the_node_shows_rounds_goals_and_the_run(host, executor):
    Graph(loop(scripted(), executor)).run("end")
    assert "round 2 of 6, 2 of 3 goals met" in host.texts and host.texts[-1].startswith("3 of 3 goals met")
    assert {node for node, _ in host.server.texts} == {"verify", "end"}, "clones speak as the nodes they are clones of"
    assert len({event["run"] for event in host.events("clvr.run")}) == 1


def test_a_mask_confines_an_edit_and_is_scaled_to_the_canvas():
    canvas = np.zeros((64, 64, 3), np.uint8)
    edit = DrawRequest("x", 0, (canvas,), 64, 64)
    mask = torch.zeros(1, 8, 8)
    mask[:, :, :4] = 1
    masked = with_mask(edit, mask).mask
    assert masked.shape == (64, 64) and (masked[:, :32] == 255).all() and (masked[:, 32:] == 0).all()
    assert with_mask(edit, None) is edit
    drawn = DrawRequest("x", 0)
    assert with_mask(drawn, mask) is drawn, "a picture from noise has nothing to keep"


def test_execute_step_draws_under_its_mask(executor):
    prompt = loop(scripted(), executor)
    prompt["execute"]["inputs"]["mask"] = torch.ones(1, 64, 64)
    Graph(prompt).run("end")
    first, *edits = executor.executor.requests
    assert first.mask is None and all((edit.mask == 255).all() for edit in edits)


def test_references_are_the_canvases_of_the_round(executor):
    class Vae:
        first_stage_model = None

        def encode(self, image):
            return image.mean()

        decode = encode

    graph = Graph(loop(scripted(), executor))
    graph.run("end")
    reasons = [node for node, made in graph.nodes.items() if made["class_type"] == "CLVR_Reason"]
    for node, wanted in zip(reasons, ([], [10])):
        graph.nodes["refer"] = {
            "class_type": "CLVR_ApplyReferences",
            "inputs": {"conditioning": [["text", {}]], "vae": Vae(), "trajectory": [node, 0]},
        }
        graph.outputs.pop("refer", None)
        ((conditioning,),) = graph.run("refer")
        latents = [round(float(latent) * 255) for latent in conditioning[1].get("reference_latents", [])]
        assert latents[:1] == wanted


def test_the_body_is_what_lies_between_start_and_end(executor):
    graph = Graph(loop(scripted(), executor))
    graph.nodes["aside"] = {"class_type": "CLVR_ViewTrajectory", "inputs": {"trajectory": ["start", 1]}}
    assert between(graph, "start", "end") == sorted(["start", "reason", "execute", "verify", "end"])


def test_clones_are_named_after_their_nodes_and_apart():
    assert names_of(["a.0.0.x", "b.0.0.x", "s"], {"s": "start"}) == {"s": "start", "a.0.0.x": "x", "b.0.0.x": "x_"}


def test_clones_are_linked_to_each_other_and_to_what_lies_outside(executor):
    graph = Graph(loop("vlm", executor))
    builder, end = another_round(graph, "start", "end", {"at": 7})
    made = {name.rpartition(".")[2]: node for name, node in builder.finalize().items()}
    assert made["start"]["inputs"] == {"trajectory": ["brief", 0], "at": 7}
    assert made["verify"]["inputs"]["candidates"][0].endswith(".execute") and made["verify"]["inputs"]["vlm"] == "vlm"
    assert made["again"]["override_display_id"] == "end" and end.out(0)[0].endswith(".again")


def stopping(host, executor: ExecutorHandle, monkeypatch) -> None:
    """While the second picture is drawn, the artist asks the run to stop after its round."""
    draw, drawn = executor.executor.draw, executor.executor.requests

    def drawing(requests):
        result = draw(requests)
        if len(drawn) == 2:
            (journal,) = host.runs.glob("*/trajectory.jsonl")
            stop_after_round(journal.parent.name)
        return result

    monkeypatch.setattr(executor.executor, "draw", drawing)


@pytest.mark.parametrize("nodes", ["loop", "one"])
def test_a_run_stops_after_its_round_if_the_artist_says_so(host, executor, monkeypatch, nodes):
    stopping(host, executor, monkeypatch)
    one = {"1": {"class_type": "CLVR_Generate", "inputs": {"vlm": scripted(), "executor": executor, **settings()}}}
    graph, node = (Graph(loop(scripted(), executor)), "end") if nodes == "loop" else (Graph(one), "1")
    run = graph.run(node)[1]
    assert len(executor.executor.requests) == 2 and run.trajectory.outcome.ended == "stopped by the artist"
    assert len(run.trajectory.steps[-1].verdicts) == 3, "the round is judged before the run ends"
    assert recorded(run.folder) == run.trajectory


def test_what_a_hand_drawn_round_took_is_written_down(executor):
    run = Graph(loop(scripted(), executor)).run("end")[1]
    assert all(step.cost.seconds["draw"] > 0 for step in run.trajectory.steps)


def test_the_time_of_a_body_counts_within_its_prompt_and_its_round(executor, monkeypatch):
    run = Graph(loop(scripted(), executor, rounds=1)).run("end")[1]
    now = iter((10.0, 17.0, 30.0))
    monkeypatch.setattr(graph_session.time, "perf_counter", lambda: next(now))
    clock = graph_session.BodyClock()
    assert clock.seconds(run) == 0
    clock.begin(run)
    clock.begin(run)
    assert (clock.seconds(run), clock.seconds(replace(run, position=run.position + 1))) == (7.0, 0.0)
