"""What all rooms of nodes/ share: checks of inputs, links, folders of runs, pictures, metadata, progress."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from clvr_pack.nodes.host import metadata, pictures, progress, run_folders
from clvr_pack.nodes.host.file_names import name_error
from clvr_pack.nodes.host.input_checks import describe, require_kind
from clvr_pack.nodes.host.links import is_link, provenance
from clvr_pack.nodes.host.sockets import Run
from clvr_pack.nodes.host.summaries import preview_images, summary_of

from clvr_core.brief import Budget
from clvr_core.errors import BadInput
from clvr_core.storage.png import read_png, write_png
from clvr_core.trajectory import Verdict
from tests.fakes import FakeVlm, goals, grey, step, trajectory
from tests.nodes.graph import Executing, Graph, Patient, loop, scripted
from tests.nodes.pack import NODES, stubs


class TestInputs:
    @pytest.mark.parametrize(
        ("kind", "value", "words"),
        [
            ("CLVR_VLM", "a text", "is the text 'a text', and should be a vision model"),
            ("CLVR_EXECUTOR", None, "is nothing, and should be an executor"),
            ("CLVR_TRAJECTORY", 3, "is a whole number, and should be a run"),
            ("IMAGE", torch.zeros(1, 8, 8), "is a mask, and should be a picture"),
            ("MASK", torch.zeros(1, 8, 8, 3), "is a picture, and should be a mask"),
            ("INT", 0.5, "is a number, and should be a whole number"),
            ("STRING", {}, "is a value of type dict, and should be text"),
            ("CONDITIONING", [1], "is a value of type list, and should be a conditioning"),
        ],
    )
    def test_a_value_of_another_kind_is_named_with_what_to_link(self, kind, value, words):
        with pytest.raises(BadInput, match=f"thing of Node {words}: link "):
            require_kind("Node", "thing", kind, value)

    def test_another_pack_may_make_an_executor_by_a_class_of_its_own(self):
        other = SimpleNamespace(executor=Patient(), width=64, height=64, check=len)
        assert require_kind("Node", "thing", "CLVR_EXECUTOR", other) is other

    @pytest.mark.parametrize(("kind", "value"), [("CLVR_VLM", FakeVlm()), ("INT", 3), ("FLOAT", 3), ("STRING", "")])
    def test_a_value_of_the_kind_passes(self, kind, value):
        assert require_kind("Node", "thing", kind, value) is value

    def test_a_long_text_is_quoted_short(self):
        assert len(describe("word " * 1000)) < 80

    def test_nodes_check_before_their_own_code_runs(self, executor):
        with pytest.raises(BadInput, match="vlm of Generate in a Loop is an executor, and should be a vision model"):
            NODES["CLVR_Generate"].execute(vlm=executor, executor=executor, prompt="x")
        with pytest.raises(BadInput, match="rounds of Generate in a Loop is the text 'many'"):
            NODES["CLVR_Generate"].execute(vlm=scripted(), executor=executor, prompt="x", rounds="many")


class TestLinks:
    def test_a_link_is_a_node_and_an_output(self):
        assert is_link(["1", 0]) and not is_link([1, 0]) and not is_link("1") and not is_link(["1", 0, 2])

    @pytest.fixture
    def prompt(self):
        return {
            "load": {"class_type": "Load", "inputs": {"file": "a"}},
            "patch": {"class_type": "Patch", "inputs": {"model": ["load", 0], "strength": 1.0}},
            "use": {"class_type": "Use", "inputs": {"model": ["patch", 0], "other": 5}},
        }

    def test_provenance_changes_with_every_widget_upstream_and_with_nothing_else(self, prompt):
        before = provenance(Graph(prompt), "use", "model")
        prompt["use"]["inputs"]["other"] = 6
        assert provenance(Graph(prompt), "use", "model") == before
        prompt["load"]["inputs"]["file"] = "b"
        changed = provenance(Graph(prompt), "use", "model")
        prompt["load"]["is_changed"] = "the file was written anew"
        assert len({before, changed, provenance(Graph(prompt), "use", "model")}) == 3
        assert provenance(Graph(prompt), "use", "other") == "" == provenance(Graph(prompt), "use", "none")

    def test_provenance_is_the_same_under_other_node_ids(self, prompt):
        text = json.dumps(prompt).replace('"load"', '"7"')
        assert provenance(Graph(json.loads(text)), "use", "model") == provenance(Graph(prompt), "use", "model")

    def test_what_a_run_enters_by_does_not_count(self, prompt):
        prompt["load"]["class_type"] = "CLVR_Reason"
        before = provenance(Graph(prompt), "use", "model")
        prompt["load"]["inputs"]["file"] = "b"
        assert provenance(Graph(prompt), "use", "model") == before


class TestRunFolders:
    def test_only_what_lies_in_the_folder_of_runs_is_a_run(self, host):
        outside = host.base / "secret"
        outside.mkdir()
        host.runs.mkdir(parents=True)
        (host.runs / "link").symlink_to(outside)
        for path in (host.runs, host.runs / "..", host.runs / "link", outside, host.runs / "a\0b"):
            with pytest.raises(BadInput, match="does not lie in the output folder under clvr; pick one of the list"):
                run_folders.require_inside(path)
        assert run_folders.require_inside(host.runs / "run-1") == host.runs / "run-1"

    def test_the_folder_is_that_of_the_longest_run_that_may_go_on(self, host, executor):
        short = Graph(loop(scripted(), executor, rounds=2)).run("brief")[0]
        key = short.folder.name.rpartition("-")[0]
        budget = short.trajectory.brief.budget
        assert run_folders.folder_for(key, replace(budget, rounds=4)) == short.folder
        assert run_folders.folder_for(key, replace(budget, rounds=1)).name == f"{key}-2", "a larger run stays"
        longer = Graph(loop(scripted(), executor, rounds=1)).run("brief")[0]
        assert longer.folder.name == f"{key}-2"
        assert run_folders.folder_for(key, replace(budget, rounds=9)) == short.folder
        assert run_folders.folder_for("other", Budget()).name == "other-1"

    def test_a_run_that_is_set_aside_is_kept_and_not_continued(self, host, executor):
        prompt = loop(scripted(), executor, rounds=2)
        first = Graph(prompt).run("end")[1]
        before = run_folders.count_gone()
        run_folders.start_anew(first.folder.name)
        assert run_folders.count_gone() == before + 1, "ComfyUI's cache does not answer for it"
        again = Graph(prompt).run("end")[1]
        assert again.folder != first.folder and len(again.trajectory.steps) == len(first.trajectory.steps)
        assert first.folder.name in run_folders.list_runs()

    @pytest.mark.parametrize("name", ["", "..", "none-1", "saved/kept-1"])
    def test_nothing_but_a_run_that_a_prompt_continues_is_set_aside(self, host, name):
        (host.runs / "saved" / "kept-1").mkdir(parents=True)
        (host.runs / "saved" / "kept-1" / "trajectory.jsonl").touch()
        for work in (run_folders.start_anew, run_folders.take_back):
            with pytest.raises(BadInput):
                work(name)
        assert not list(host.base.rglob(run_folders.ASIDE))

    def test_runs_are_listed_saved_ones_first(self, host):
        for name in ("a-1", "saved/kept-1", "empty"):
            (host.runs / name).mkdir(parents=True)
        for name in ("a-1", "saved/kept-1"):
            (host.runs / name / "trajectory.jsonl").touch()
        assert run_folders.list_runs() == ["saved/kept-1", "a-1"]

    def test_a_deleted_run_changes_the_fingerprint_of_nodes_that_make_runs(self, host, executor):
        run = Graph(loop(scripted(), executor)).run("brief")[0]
        before = NODES["CLVR_Brief"].fingerprint_inputs(prompt="x")
        assert NODES["CLVR_Generate"].fingerprint_inputs() == before
        run.folder.rename(host.runs / "away")
        assert NODES["CLVR_Brief"].fingerprint_inputs(prompt="x") == before + 1
        assert NODES["CLVR_Generate"].fingerprint_inputs() == before + 1, "counted once"

    @pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "x" * 65, "a\nb"])
    def test_a_name_that_is_no_plain_word_is_refused(self, name):
        assert name_error(name).startswith("name is ") and name_error("My run 1.5-b") == ""


class TestPictures:
    def test_a_picture_comes_back_bit_for_bit(self):
        picture = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
        image = pictures.as_image(picture)
        assert image.shape == (1, 16, 16, 3) and image.dtype == torch.float32 and float(image.max()) == 1
        assert np.array_equal(pictures.as_pictures(image)[0], picture)
        alpha = torch.cat([image, torch.zeros(1, 16, 16, 1)], -1)
        assert np.array_equal(pictures.as_pictures(alpha)[0], picture)

    def test_equal_pictures_are_one_tensor(self):
        first = pictures.as_image(grey(7, 64, 64))
        assert pictures.as_image(grey(7, 64, 64)) is first and pictures.as_image(grey(8, 64, 64)) is not first

    @pytest.mark.skipif(not pictures.CAN_RELEASE, reason="this system cannot drop mapped pages")
    def test_a_large_one_lies_in_a_file_and_survives_a_release(self, host):
        picture = np.random.default_rng(1).integers(0, 256, (600, 600, 3), np.uint8)
        image = pictures.as_image(picture)
        assert len(pictures._maps) >= 1
        pictures.release_memory()
        assert np.array_equal(pictures.as_pictures(image)[0], picture)

    def test_without_room_on_the_disk_it_lies_in_memory(self, host, monkeypatch):
        monkeypatch.setattr(stubs["folder_paths"], "base", host.base / "nowhere")
        picture = np.random.default_rng(2).integers(0, 256, (600, 600, 3), np.uint8)
        assert np.array_equal(pictures.as_pictures(pictures.as_image(picture))[0], picture)

    def test_a_batch_has_the_size_of_the_first(self):
        first, second = pictures.resize_to_first([grey(1, 8, 6), grey(2, 16, 16)])
        assert first.shape == second.shape == (6, 8, 3) and second.max() == 2

    def test_black_takes_no_memory(self):
        assert pictures.black(1000, 2000).shape == (1, 1000, 2000, 3)
        assert pictures.black(1000, 2000).untyped_storage().nbytes() == 12


class Hidden:
    def __init__(self, workflow: object, prompt: object = None) -> None:
        self.extra_pnginfo, self.prompt = None if workflow is None else {"workflow": workflow}, prompt


class TestMetadata:
    def test_pictures_carry_prompt_and_workflow(self, monkeypatch):
        hidden = Hidden({"nodes": []}, {"1": {}})
        assert metadata.png_texts(hidden) == {"prompt": '{"1": {}}', "workflow": '{"nodes": []}'}
        assert metadata.png_texts(Hidden(None)) == {}
        monkeypatch.setattr(stubs["comfy.cli_args"].args, "disable_metadata", True)
        assert metadata.png_texts(hidden) == {}

    def test_the_best_picture_gets_the_workflow_and_keeps_what_it_had(self, host):
        folder = host.runs / "run-1"
        folder.mkdir(parents=True)
        write_png(folder / "best.png", grey(9), {"clvr": "the run"})
        metadata.embed_in_best(Run(trajectory(), folder, 0), Hidden({"nodes": []}))
        picture, texts = read_png(folder / "best.png")
        assert texts["clvr"] == "the run" and texts["workflow"] == '{"nodes": []}' and picture.max() == 9

    def test_the_workflow_names_the_run_on_the_node_at_work_in_a_subgraph_too(self, host):
        inner = {"id": 5, "type": "CLVR_Generate"}
        workflow = {
            "nodes": [{"id": 12, "type": "uuid"}, {"id": 5, "properties": {"kept": 1}}],
            "definitions": {"subgraphs": [{"id": "uuid", "nodes": [inner]}]},
        }
        for node in ("5", "12:5"):
            with Executing(Graph({node: {}}), node):
                metadata.name_run(host.runs / "run-1", Hidden(workflow))
        assert inner["properties"] == {"clvr_run": "run-1"}
        assert workflow["nodes"][1]["properties"] == {"kept": 1, "clvr_run": "run-1"}

    @pytest.mark.parametrize("workflow", [None, [], {}, {"nodes": 3}, {"nodes": [{"type": "x"}]}, "text"])
    def test_a_workflow_of_another_form_is_left_alone(self, host, workflow):
        with Executing(Graph({"1": {}}), "1"):
            metadata.name_run(host.runs / "run-1", Hidden(workflow))


class TestProgress:
    def test_text_is_shown_on_the_node_that_a_clone_is_a_clone_of(self, host):
        graph = Graph({"3.0.0.2": {"override_display_id": "2"}})
        with Executing(graph, "3.0.0.2"):
            progress.show_text("words")
        progress.show_text("outside of a prompt")
        assert host.server.texts == [("2", "words")]

    def test_without_a_server_nothing_is_shown_and_nothing_fails(self, host, monkeypatch):
        monkeypatch.setattr(stubs["server"].PromptServer, "instance", None)
        progress.announce_run(host.runs / "run-1")
        with Executing(Graph({"1": {}}), "1"):
            progress.show_text("words")

    def test_a_run_is_announced_to_all_and_to_the_tab_that_queued_it(self, host):
        host.server.client_id = "tab"
        host.server.prompt_queue.running = [
            (0, "prompt", {}, {"extra_pnginfo": {"workflow": {"id": "w"}}}),
        ]
        with Executing(Graph({"1": {}}), "1"):
            progress.announce_run(host.runs / "saved" / "run-1")
        assert host.server.sent == [
            ("clvr.run", {"run": "saved/run-1"}, None),
            ("clvr.node", {"run": "saved/run-1", "node": "1", "workflow": "w"}, "tab"),
        ]

    def test_a_preview_is_shrunk_by_a_whole_number(self):
        assert progress.preview_of(grey(1, 1500, 700)).size == (750, 350)
        assert progress.preview_of(grey(1, 64, 64)).size == (64, 64)

    def test_cancel_reaches_an_executor_that_can_be_interrupted_and_only_meanwhile(self, executor):
        drawing = executor.executor
        before = drawing.check
        with progress.interruptible(drawing):
            assert drawing.check is stubs["comfy.model_management"].throw_exception_if_processing_interrupted
        assert drawing.check is before
        with progress.interruptible(object()):
            pass


class TestSummaries:
    def test_it_says_how_the_run_ended_and_each_warning(self):
        run = trajectory(
            step(canvas=0, verdicts={"g1": "met", "g2": "unmet"}),
            goals=goals("a", "b"),
            warnings=("a word was left out",),
        )
        assert summary_of(run).splitlines() == [
            "1 of 2 goals met in 1 steps and 0 evaluations: the run has not ended",
            "warning: a word was left out",
        ]

    def test_a_judge_that_failed_is_a_warning_and_no_verdict(self):
        verdicts = (Verdict("g1", "error", evidence="the server is away"), Verdict("g2", "met"))
        silent = replace(step(canvas=0), verdicts=verdicts)
        assert summary_of(trajectory(silent, goals=goals("a", "b"))).splitlines()[1] == (
            "warning: the judge gave no answer to 1 of 2 questions: the server is away"
        )

    def test_a_node_shows_the_best_picture_first(self, host):
        run = trajectory(step(canvas=0), step("EDIT", canvas=1), best=1)
        face = preview_images(Run(run, host.runs / "run-1", 3))
        assert face["clvr_run"] == ["run-1"]
        shown = face["images"]
        assert [image["filename"] for image in shown] == ["canvas-001.png", "canvas-000.png"]
        assert {image["subfolder"] for image in shown} == {"clvr/run-1"}
