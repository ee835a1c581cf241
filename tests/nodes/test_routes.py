"""What the viewer and the forecast line get from the server, and what nobody gets."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from clvr_pack.nodes import ClvrExtension
from clvr_pack.nodes.routes import again, forecast, model_sizes, run_index, runs
from PIL import Image
from safetensors.torch import save_file

from clvr_core.errors import BadInput
from clvr_core.storage.lock import locked
from clvr_core.storage.png import read_png
from tests.nodes.graph import Graph, loop, recorded, scripted, settings
from tests.nodes.pack import NODES, stubs

web = stubs["aiohttp.web"]


@pytest.fixture
def run(executor):
    return Graph(loop(scripted(), executor)).run("end")[1]


@pytest.fixture
def get(host):
    asyncio.run(ClvrExtension().on_load())

    def get(route: str, **query: str):
        answer = asyncio.run(host.server.routes.handlers["GET", f"/clvr/{route}"](web.Request(query, {})))
        return (answer.status, json.loads(answer.text)) if isinstance(answer, web.Response) else answer

    return get


class TestRuns:
    def test_runs_are_listed_with_what_became_of_them(self, run, get):
        (listed,) = get("runs")[1]["runs"]
        first = run.trajectory.steps[0].candidates[0].sha256
        changed = (run.folder / "trajectory.jsonl").stat().st_mtime
        brief = {"prompt": "three things", "seed": str(run.trajectory.brief.seed), "strategy": "strokes"}
        judged = {"steps": 3, "met": True, "goals": 3, "goals_met": 3, "best": run.trajectory.best}
        assert listed == {"run": run.folder.name, "first": first, "changed": changed, **brief, **judged}

    def test_a_damaged_run_is_listed_with_the_reason(self, host, get):
        (host.runs / "broken-1").mkdir(parents=True)
        (host.runs / "broken-1" / "trajectory.jsonl").write_text("nonsense\n")
        assert get("runs")[1]["runs"][0]["prompt"].startswith("cannot be read: ")

    @pytest.mark.parametrize("damage", ["nonsense", "no brief", "folder", "outside", "gone", "forbidden"])
    def test_whatever_is_wrong_with_a_run_no_path_of_the_machine_is_told(self, host, get, damage, monkeypatch):
        journal = host.runs / "broken-1" / "trajectory.jsonl"
        journal.parent.mkdir(parents=True)
        journal.write_text('{"event": "start"}\n' if damage == "no brief" else "nonsense\n")
        if damage == "folder":
            journal.unlink()
            journal.mkdir()
        elif damage == "outside":
            journal.rename(host.base / "elsewhere")
            journal.symlink_to(host.base / "elsewhere")
        elif damage in ("gone", "forbidden"):
            code = errno.ENOENT if damage == "gone" else errno.EACCES
            fault = lambda path: (_ for _ in ()).throw(OSError(code, os.strerror(code), str(path)))  # noqa: E731
            monkeypatch.setattr(type(journal), "read_bytes", fault)
        for status, answer in (
            get("runs"),
            get("lines", run="broken-1"),
            get("lines", run=str(host.runs / "broken-1")),
        ):
            assert status in (200, 404) and str(host.runs) not in json.dumps(answer)
        assert damage in ("folder",) or get("runs")[1]["runs"][0]["prompt"].startswith("cannot be read: ")

    def test_lines_come_as_they_stand_from_any_one_on(self, run, get):
        lines = (run.folder / "trajectory.jsonl").read_text().splitlines()
        assert get("lines", run=run.folder.name)[1] == {"total": len(lines), "lines": lines}
        assert get("lines", run=run.folder.name, **{"from": "2"})[1]["lines"] == lines[2:]
        assert get("lines", run=run.folder.name, **{"from": "-1"})[1]["lines"] == lines

    def test_a_line_that_is_still_being_written_is_left_out(self, run, get):
        with (run.folder / "trajectory.jsonl").open("a") as journal:
            journal.write('{"event": "go')
        assert get("lines", run=run.folder.name)[1]["lines"][-1].endswith("}")

    def test_a_canvas_is_the_file_in_the_folder(self, run, get):
        answer = get("canvas", run=run.folder.name, canvas="1")
        assert answer.path == run.folder / "canvas-001.png" and answer.headers["Content-Type"] == "image/png"

    def test_a_clean_copy_of_a_canvas_is_the_picture_and_nothing_else(self, host, run, get):
        asyncio.run(ClvrExtension().on_load())
        handler = host.server.routes.handlers["GET", "/clvr/clean"]
        answer = asyncio.run(handler(web.Request({"run": run.folder.name, "canvas": "1"}, {})))
        assert answer.headers["Content-Disposition"] == 'attachment; filename="picture.png"'
        (host.base / "copy.png").write_bytes(answer.body)
        picture, texts = read_png(host.base / "copy.png")
        assert np.array_equal(picture, read_png(run.folder / "canvas-001.png")[0]) and texts == {}
        assert get("clean", run=run.folder.name, canvas="99")[0] == 404

    @pytest.mark.parametrize("name", ["", ".", "..", "../..", "link", "no-such-1", "a\0b", "x" * 5000])
    def test_nothing_outside_the_runs_is_read(self, host, get, name):
        secret = host.base / "secret"
        secret.mkdir()
        (secret / "trajectory.jsonl").write_text('{"event": "start"}\n')
        (secret / "canvas-000.png").write_bytes(b"secret")
        host.runs.mkdir(parents=True)
        (host.runs / "link").symlink_to(secret)
        assert [get(route, run=name, canvas="0")[0] for route in ("lines", "canvas", "clean")] == [404] * 3

    @pytest.mark.parametrize("number", ["99", "-1", "x", "", "1e1", "../0", "9" * 50])
    def test_a_canvas_that_is_not_there_is_no_file(self, run, get, number):
        status, answer = get("canvas", run=run.folder.name, canvas=number)
        assert status == 404 and "is not in the run" in answer["error"]

    def test_a_journal_too_large_for_the_viewer_is_not_read(self, run, get, monkeypatch):
        monkeypatch.setattr(runs, "MAX_JOURNAL_BYTES", 10)
        assert "the viewer opens none that large" in get("lines", run=run.folder.name)[1]["error"]


class TestAgain:
    @pytest.fixture
    def post(self, host, monkeypatch):
        monkeypatch.setattr(again, "PAUSE", 0)
        again.add_routes(host.server)

        def post(what: str, **body: object):
            handler = host.server.routes.handlers["POST", f"/clvr/runs/{what}"]
            answer = asyncio.run(handler(web.Request({}, {}, json.dumps(body).encode())))
            return answer.status, json.loads(answer.text)

        return post

    def test_a_run_is_set_aside(self, run, post):
        assert post("anew", run=run.folder.name) == (200, {}) and (run.folder / "set-aside").exists()

    @pytest.mark.parametrize("nodes", ["loop", "one"])
    def test_a_candidate_is_picked_and_the_next_prompt_continues_from_it(self, executor, post, nodes):
        def prompt() -> tuple[Graph, str]:
            if nodes == "loop":
                return Graph(loop(scripted(), executor, candidates=2)), "end"
            inputs = {"vlm": scripted(), "executor": executor, **settings(candidates=2)}
            return Graph({"1": {"class_type": "CLVR_Generate", "inputs": inputs}}), "1"

        graph, node = prompt()
        run = graph.run(node)[1]
        (other,) = [
            each.canvas for each in run.trajectory.steps[0].candidates if each.canvas != run.trajectory.steps[0].chosen
        ]
        status, answer = post("pick", run=run.folder.name, canvas=other)
        assert status == 200 and (run.folder / "set-aside").exists()
        graph, node = prompt()
        again = graph.run(node)[1]
        first = again.trajectory.steps[0]
        assert again.folder.name == answer["folder"] != run.folder.name
        assert (first.chosen, first.ruling, len(first.verdicts)) == (other, "picked by the artist", 3)
        assert again.trajectory.steps[1].action.references[0] == other and again.trajectory.outcome.met
        assert recorded(again.folder) == again.trajectory

    @pytest.mark.parametrize("canvas", [99, -1, "0", None, True, 1.5])
    def test_what_the_run_did_not_draw_cannot_be_picked(self, run, post, canvas):
        assert post("pick", run=run.folder.name, canvas=canvas)[0] == 400
        assert not (run.folder / "set-aside").exists()

    def test_an_error_is_a_sentence_with_status_400(self, run, post):
        status, answer = post("take-back", run=run.folder.name)
        assert status == 400 and answer["error"].startswith("you have said nothing in the run")
        assert post("anew")[0] == post("anew", run="../..")[0] == 400

    def test_a_prompt_that_is_at_work_is_not_disturbed(self, host, run, post):
        host.server.prompt_queue.running = [(0, "prompt", {}, {})]
        assert "cancel it first" in post("anew", run=run.folder.name)[1]["error"]
        assert not (run.folder / "set-aside").exists()


class TestForecast:
    def test_it_counts_rounds_and_reads_the_time_of_earlier_runs(self, run):
        unknown = forecast.forecast_for({"strategy": "clvr", "rounds": 3})
        assert unknown["memory"]["fits"] and json.dumps(unknown)
        known = forecast.forecast_for({"strategy": "strokes", "rounds": 3, "width": 64, "height": 64})
        assert len(forecast.recent_runs()) == 1 and known != unknown

    @pytest.mark.parametrize("asked", [{"rounds": "many"}, {"strategy": "none"}, {"width": None}, {"rounds": 1e400}])
    def test_what_no_brief_can_have_is_refused(self, host, asked):
        with pytest.raises(BadInput):
            forecast.forecast_for(asked)

    def test_the_route_answers_in_words_with_status_400(self, host):
        forecast.add_routes(host.server.routes)
        handler = host.server.routes.handlers["POST", "/clvr/forecast"]
        answer = asyncio.run(handler(web.Request({}, {}, b'{"strategy": "none"}')))
        assert answer.status == 400 and "none" in json.loads(answer.text)["error"]
        assert asyncio.run(handler(web.Request({}, {}, b"{}"))).status == 200

    def test_a_damaged_run_is_skipped(self, host, run):
        (host.runs / "broken-1").mkdir()
        (host.runs / "broken-1" / "trajectory.jsonl").write_text("nonsense\n")
        assert len(forecast.recent_runs()) == 1


class TestMemory:
    @pytest.fixture
    def file(self, host):
        folder = host.base / "models" / "diffusion_models"
        folder.mkdir(parents=True)
        save_file({"weight": torch.zeros(1 << 20, dtype=torch.bfloat16)}, folder / "dit.safetensors")
        return "dit.safetensors"

    def linked(self, kind: str, **widgets: str) -> dict:
        return {"executor": [["7", kind, widgets]]}

    def test_a_loader_is_known_by_its_widget(self, file):
        memory = model_sizes.memory_of(self.linked("UNETLoader", unet_name=file))
        assert memory["fits"] and memory["told"].startswith("cpu: ") and "not known" not in memory["told"]

    def test_files_of_the_gguf_and_nunchaku_loaders_are_weighed(self, host, file, monkeypatch):
        """Their loaders' widgets, as city96's ComfyUI-GGUF and nunchaku's ComfyUI-nunchaku have them."""
        folder = host.base / "models" / "unet_gguf"
        folder.mkdir(parents=True)
        (folder / "klein-Q8_0.gguf").write_bytes(b"GGUF" + bytes(4_000_000))
        named = self.linked("UnetLoaderGGUF", unet_name="klein-Q8_0.gguf")
        assert "how large the executor is" in model_sizes.memory_of(named)["told"], "without the pack nothing lists it"
        monkeypatch.setitem(stubs["folder_paths"].folder_names_and_paths, "unet_gguf", ([], {".gguf"}))
        assert model_sizes.memory_of(named)["weights"] == [{"name": "DiT", "bytes": 4_000_004, "missing": False}]
        for kind, widget in (("NunchakuFluxDiTLoader", "model_path"), ("NunchakuQwenImageDiTLoader", "model_name")):
            (weights,) = model_sizes.memory_of(self.linked(kind, **{widget: file}))["weights"]
            assert weights["bytes"] > 2 << 20
        assert not model_sizes.memory_of(self.linked("SomeLoader", model_name=file))["weights"]

    def test_what_does_not_fit_is_said(self, host, file, monkeypatch):
        monkeypatch.setattr(host.memory, "free_memory", 1 << 20)
        assert not model_sizes.memory_of(self.linked("UNETLoader", unet_name=file))["fits"]

    def test_a_diffusion_model_that_is_computed_in_fp32_is_loaded_as_such(self, host, file, monkeypatch):
        """As on a CPU: seen with the published Klein 4B, whose 7.75 GB of bf16 became 15.50 GB."""
        wanted = [
            self.linked("UNETLoader", unet_name=file),
            self.linked("UNETLoader", unet_name="flux-2-klein-4b.safetensors"),
        ]
        before = [model_sizes.memory_of(each)["weights"][0]["bytes"] for each in wanted]
        monkeypatch.setattr(host.memory, "diffusion_dtype", torch.float32)
        after = [model_sizes.memory_of(each)["weights"][0]["bytes"] for each in wanted]
        assert after == [before[0] + (2 << 20), 2 * before[1]]
        eight = self.linked("UNETLoader", unet_name=file, weight_dtype="fp8_e4m3fn")
        assert model_sizes.memory_of(eight)["weights"][0]["bytes"] == 1 << 20, "8 bits stay"

    def test_models_that_comfyui_would_unload_count_as_free(self, host, monkeypatch):
        device = torch.device("cpu")
        held = SimpleNamespace(model=object(), device=device, model_loaded_memory=lambda: 5)
        monkeypatch.setattr(host.memory, "free_memory", 7)
        host.memory.current_loaded_models.append(held)
        assert model_sizes.available_bytes(device) == 12

    def test_a_server_and_an_unknown_loader_are_said_to_be_so(self):
        linked = {"vlm": [["1", "CLVR_ServerModel", {}]], "executor": [["2", "SomeLoader", {"file": "x"}]]}
        told = model_sizes.memory_of(linked)["told"]
        assert "the VLM is behind a server" in told and "how large the executor is, is not known" in told

    def quick(self, **widgets: str) -> dict:
        return {side: [["1", "CLVR_Quick", widgets]] for side in ("vlm", "executor")}

    def test_the_one_node_is_the_loaders_that_it_becomes(self, host):
        for path in ("diffusion_models/flux-2-klein-4b.safetensors", "vae/flux2-vae.safetensors"):
            file = host.base / "models" / path
            file.parent.mkdir(parents=True)
            save_file({"weight": torch.zeros(1 << 20, dtype=torch.bfloat16)}, file)
        memory = model_sizes.memory_of(self.quick(model="auto"))
        # Those that are missing weigh what is published.
        assert [(each["name"], each["missing"]) for each in memory["weights"]] == [
            *(("VLM", True), ("DiT", False), ("text encoder", True), ("VAE", False))
        ]
        assert not memory["unknown"] and [each["folder"] for each in memory["offers"]] == ["text_encoders"] * 2
        assert all(each["link"].endswith(each["name"]) for each in memory["offers"])
        assert memory["offers"][0]["name"] == "qwen_3_4b_fp8_mixed.safetensors", "of 8 GB"

    def test_without_a_diffusion_model_it_is_the_embedded_ones_and_others_are_offered(self, host):
        memory = model_sizes.memory_of(self.quick())
        assert [each["name"] for each in memory["weights"]] == ["embedded models"] and len(memory["offers"]) == 4
        assert not model_sizes.memory_of(self.quick(model="embedded (no download)"))["offers"]
        assert model_sizes.memory_of(self.quick(model="mine.safetensors"))["unknown"] == ["VLM"]

    @pytest.mark.parametrize(
        "linked",
        [
            None,
            [],
            {"vlm": 3},
            {"executor": [["1", "CLVR_Quick", {"model": 3, "vae": ["x"]}]]},
            {"vlm": [3, ["1"]]},
            {"executor": [["1", "X", {"unet_name": "../../secret"}]]},
        ],
    )
    def test_a_strangers_graph_reads_nothing_and_breaks_nothing(self, host, linked):
        assert model_sizes.memory_of(linked)["fits"]


class TestTrajectoryNodes:
    def graph(self, kind: str, **inputs: object) -> Graph:
        return Graph({"1": {"class_type": f"CLVR_{kind}", "inputs": inputs}})

    def test_a_run_is_saved_under_a_name_and_a_number(self, host, run):
        for number in (1, 2):
            (name,) = self.graph("SaveTrajectory", trajectory=run, name="mine").run("1")
            assert name == f"saved/mine-{number}"
        best = read_png(host.runs / "saved" / "mine-1" / "best.png")
        assert "\nSteps: " in best[1]["parameters"] and not (host.runs / "saved" / "mine-1" / "clean.png").exists()
        self.graph("SaveTrajectory", trajectory=run, name="mine", clean_copy=True).run("1")
        clean = read_png(host.runs / "saved" / "mine-3" / "clean.png")
        assert np.array_equal(clean[0], best[0]) and clean[1] == {}
        assert NODES["CLVR_SaveTrajectory"].validate_inputs(name="../x").startswith("name is '../x'")
        assert NODES["CLVR_SaveTrajectory"].validate_inputs(name=None) is True
        with pytest.raises(BadInput, match="name is 'a/b'"):
            self.graph("SaveTrajectory", trajectory=run, name="a/b").run("1")

    def test_a_saved_run_opens_as_it_was(self, run):
        (name,) = self.graph("SaveTrajectory", trajectory=run, name="mine").run("1")
        image, loaded, summary = self.graph("LoadTrajectory", run=name).run("1")
        assert loaded.trajectory == run.trajectory and summary.startswith("3 of 3 goals met")
        assert np.isclose(image[0, 5, 5, 0] * 255, 30)
        assert NODES["CLVR_LoadTrajectory"].fingerprint_inputs(run=name)[1] > 0

    def test_a_file_that_is_no_run_is_refused_in_words(self, host, run):
        (host.runs / "broken-1").mkdir()
        (host.runs / "broken-1" / "trajectory.jsonl").write_text('{"event": "start"}\n')
        with pytest.raises(BadInput):
            self.graph("LoadTrajectory", run="broken-1").run("1")
        with pytest.raises(BadInput, match="does not lie in the output folder under clvr"):
            self.graph("LoadTrajectory", run="../..").run("1")

    def test_the_sheet_shows_a_line_a_round(self, run):
        sheet, told = self.graph("ViewTrajectory", trajectory=run, columns=2).run("1")
        lines = told.splitlines()
        assert lines[0] == "1 GENERATE: kept, 1 of 3 goals met" and lines[2].endswith("3 of 3 goals met, the best")
        assert sheet.ndim == 4 and sheet.shape[1] > 256

    def test_a_run_without_a_picture_has_no_sheet(self, executor):
        planned = Graph(loop(scripted(), executor)).run("brief")[0]
        with pytest.raises(BadInput, match="this run has drawn nothing yet"):
            self.graph("ViewTrajectory", trajectory=planned).run("1")


class TestGallery:
    """What the gallery in the sidebar is made of, and what it does to runs."""

    @pytest.fixture
    def post(self, host, monkeypatch):
        monkeypatch.setattr(again, "PAUSE", 0)
        again.add_routes(host.server)

        def post(what: str, remote: str = "127.0.0.1", **body: str):
            request = web.Request({}, {}, json.dumps(body).encode())
            request.remote = remote
            answer = asyncio.run(host.server.routes.handlers["POST", f"/clvr/runs/{what}"](request))
            return answer.status, json.loads(answer.text)

        return post

    def test_five_hundred_runs_are_listed_and_read_once(self, host, run, get, monkeypatch):
        journal = (run.folder / "trajectory.jsonl").read_bytes()
        for number in range(500):
            folder = host.runs / f"{number:016x}-1"
            folder.mkdir()
            (folder / "trajectory.jsonl").write_bytes(journal)
        listed = get("runs")[1]["runs"]
        assert len(listed) == 501 and {each["goals_met"] for each in listed} == {3}
        monkeypatch.setattr(run_index, "read_trajectory", None)
        assert get("runs")[1]["runs"] == listed
        runs._index.cache_clear()  # as after a restart of ComfyUI
        assert get("runs")[1]["runs"] == listed

    def test_a_small_picture_is_made_of_a_canvas(self, run, get):
        answer = asyncio.run(runs.thumb(web.Request({"run": run.folder.name, "canvas": "0"}, {})))
        with Image.open(io.BytesIO(answer.body)) as image:
            assert (image.format, max(image.size) <= runs.THUMB_SIDE) == ("JPEG", True)
        assert answer.headers["Content-Type"] == "image/jpeg" and "max-age" in answer.headers["Cache-Control"]

    def test_of_what_is_no_picture_or_elsewhere_there_is_none(self, host, run, get):
        (run.folder / "canvas-000.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
        assert get("thumb", run=run.folder.name, canvas="0") == (404, {"error": "the picture cannot be read"})
        for name in ("..", "../..", "", "no-such-1"):
            assert get("thumb", run=name, canvas="0")[0] == 404

    def test_a_deleted_run_lies_in_the_trash_with_all_its_files(self, host, run, post, get):
        files = {path.name for path in run.folder.iterdir()}
        status, answer = post("delete", run=run.folder.name)
        trash = host.runs.parent / "clvr-trash" / run.folder.name
        assert (status, answer) == (200, {"folder": f"clvr-trash/{run.folder.name}"})
        assert {path.name for path in trash.iterdir()} == files and get("runs")[1]["runs"] == []
        (host.runs / run.folder.name).mkdir()
        (host.runs / run.folder.name / "trajectory.jsonl").write_text("nonsense\n")
        assert post("delete", run=run.folder.name)[1] == {"folder": f"clvr-trash/{run.folder.name} (2)"}

    @pytest.mark.parametrize("name", ["", ".", "..", "../..", "link", "no-such-1", "a\0b", "saved"])
    def test_nothing_but_a_run_is_deleted_opened_or_stopped(self, host, run, post, name):
        secret = host.base / "secret"
        secret.mkdir()
        (secret / "trajectory.jsonl").write_text('{"event": "start"}\n')
        (host.runs / "link").symlink_to(secret)
        for what in ("delete", "open", "stop"):
            assert post(what, run=name)[0] == 400
        assert secret.is_dir() and run.folder.is_dir()

    def test_a_run_that_is_at_work_or_held_by_another_is_not_deleted(self, host, run, post):
        host.server.prompt_queue.running = [(0, "prompt", {}, {})]
        assert "cancel it first" in post("delete", run=run.folder.name)[1]["error"]
        host.server.prompt_queue.running = []
        with locked(run.folder):
            assert post("delete", run=run.folder.name)[0] == 400
        assert run.folder.is_dir()

    def test_a_folder_is_opened_for_a_tab_on_this_machine_only(self, run, post, monkeypatch):
        opened: list[str] = []
        monkeypatch.setattr(again.webbrowser, "open", lambda url: opened.append(url) or True)
        monkeypatch.setattr(again, "has_desktop", lambda: True)
        told = {"shown": False, "folder": f"output/clvr/{run.folder.name}"}
        assert post("open", remote="192.168.0.7", run=run.folder.name) == (200, told) and not opened
        assert post("open", run=run.folder.name) == (200, told | {"shown": True})
        assert opened == [run.folder.as_uri()]
        monkeypatch.setattr(again, "has_desktop", lambda: False)
        assert post("open", run=run.folder.name) == (200, told)

    def test_what_has_ended_cannot_be_stopped(self, run, post):
        assert "has ended already" in post("stop", run=run.folder.name)[1]["error"]
