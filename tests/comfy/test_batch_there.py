"""`clvr batch --comfyui`: the queue of a real ComfyUI, the embedded models, the runs in folders here."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from clvr_core import cli
from clvr_core.batch import SUMMARY
from clvr_core.comfyui_queue import ComfyQueue
from clvr_core.run.reading import read_trajectory
from clvr_core.run.run_folder import BEST, REPORT
from clvr_core.storage.png import read_png
from tests.comfy.graphs import PROMPT, graph, runs, stubbed
from tests.comfy.server import ROOT
from tests.fakes import grey
from tests.waiting import until

pytestmark = pytest.mark.weights
WORKFLOW = ROOT / "workflows" / "api" / "1-quick-try.json"


def batch(comfy, folder, workflow, *more: object) -> int:
    words = ["batch", folder / "briefs.csv", "--out", folder / "runs", "--comfyui", f"http://127.0.0.1:{comfy.port}"]
    return cli.main([str(word) for word in (*words, "--workflow", workflow, "--json", *more)])


def test_briefs_are_painted_by_the_server_with_the_embedded_models(comfy, tmp_path, capsys):
    (tmp_path / "briefs.csv").write_text(
        f'id,prompt,seed\none,"{PROMPT}",21\ntwo,a portrait of a queen in oil,1\n', "utf-8"
    )
    before = runs(comfy)
    assert batch(comfy, tmp_path, WORKFLOW, "--strategy", "oneshot") == cli.BAD_INPUT
    line = json.loads(capsys.readouterr().out)
    one, two = line["results"]
    assert one["state"] in ("met", "unmet"), one["reason"]
    assert two["state"] == "failed" and "NOUN" in two["reason"]
    (there,) = (path for path in runs(comfy) if path not in before)
    here = tmp_path / "runs" / "one"
    assert read_trajectory(here) == read_trajectory(there) and read_trajectory(here).brief.seed == 21
    assert (here / "canvas-000.png").read_bytes() == (there / "canvas-000.png").read_bytes()
    assert np.array_equal(read_png(here / BEST)[0], read_png(there / BEST)[0]) and (here / REPORT).exists()
    assert json.loads((tmp_path / "runs" / SUMMARY).read_text())["failed"] == 1
    (tmp_path / "briefs.csv").write_text(f'id,prompt,seed\none,"{PROMPT}",21\n', "utf-8")
    assert batch(comfy, tmp_path, WORKFLOW, "--strategy", "oneshot") == cli.DONE, "it is there already"
    capsys.readouterr()
    assert batch(comfy, tmp_path, WORKFLOW, "--strategy", "director") == cli.BAD_INPUT
    assert "one is a run of another brief" in capsys.readouterr().out
    assert runs(comfy) == [*before, there]


def test_references_come_to_the_node_and_back_with_the_run(comfy, tmp_path, capsys):
    for name, value in (("ann", 130), ("mug", 140)):
        Image.fromarray(grey(value, 80, 64)).save(tmp_path / f"{name}.png")
    header, named = "id,prompt,seed,references", "ann=ann.png:face | mug=mug.png:product"
    (tmp_path / "briefs.csv").write_text(f'{header}\none,"{PROMPT}",22,{named}\n', "utf-8")
    before = runs(comfy)
    assert batch(comfy, tmp_path, WORKFLOW, "--strategy", "oneshot") in (cli.DONE, cli.NOT_MET), capsys.readouterr()
    (there,) = (path for path in runs(comfy) if path not in before)
    here = tmp_path / "runs" / "one"
    brief = read_trajectory(here).brief
    assert [(each.name, each.keeps) for each in brief.references] == [("ann", "face"), ("mug", "product")]
    for name, value in (("ann", 130), ("mug", 140)):
        (picture, _), (other, _) = (read_png(folder / f"reference-{name}.png") for folder in (here, there))
        assert np.array_equal(picture, other) and (picture == value).all()


def test_a_workflow_that_the_server_refuses_is_said_in_its_words(comfy, tmp_path, capsys):
    (tmp_path / "briefs.csv").write_text("prompt\nthree things\n", "utf-8")
    wrong = stubbed(graph())
    wrong["2"]["inputs"]["vlm"] = ["9", 0]
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    assert batch(comfy, tmp_path, tmp_path / "wrong.json") == cli.BAD_INPUT
    assert "ComfyUI refuses the workflow" in capsys.readouterr().out


def test_an_interruption_leaves_nothing_in_the_queue(comfy, tmp_path, monkeypatch, capsys):
    rows = "".join(f"three things,{seed}\n" for seed in range(31, 34))
    (tmp_path / "briefs.csv").write_text(f"prompt,seed\n{rows}", "utf-8")
    (tmp_path / "slow.json").write_text(json.dumps(stubbed(graph(), steps=1000, step_seconds=0.05)))
    look, looked = ComfyQueue.look, []

    def interrupted(self, prompt):
        looked.append(prompt)
        if len(looked) > 6:
            raise KeyboardInterrupt
        return look(self, prompt)

    monkeypatch.setattr(ComfyQueue, "look", interrupted)
    assert batch(comfy, tmp_path, tmp_path / "slow.json", "--concurrency", 3) == cli.INTERRUPTED
    assert "the same command" in capsys.readouterr().out
    until(lambda: not any(comfy.get("/queue").values()), lambda: f"an empty queue:\n{comfy.said}")
    ended = [comfy.get(f"/history/{prompt}").get(prompt) for prompt in set(looked)]
    assert len(ended) == 3 and not any(entry and entry["status"]["status_str"] == "success" for entry in ended)
