"""The node Witnesses: what it puts beside the judge, and how it finds things by ComfyUI's own nodes."""

from __future__ import annotations

import json
import sys
import types
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from clvr_pack.nodes.host.sockets import ExecutorHandle
from clvr_pack.nodes.loop.host_session import generate as run_loop
from clvr_pack.nodes.loop.inputs import named_references
from clvr_pack.nodes.witness import node
from clvr_pack.nodes.witness.core_detectors import CoreDetector

from clvr_core.brief import Brief, Goal
from clvr_core.errors import BadInput
from clvr_core.witness import Witnesses
from clvr_core.witness.judge import Witnessed, with_witnesses, without_witnesses
from clvr_core.witness.lettering import Line
from clvr_core.witness.things import Found
from tests.fakes import FakeExecutor, FakeVlm, grey
from tests.nodes.graph import Graph
from tests.nodes.pack import stubs
from tests.run.script import generate, scripted

PICTURE = np.zeros((50, 100, 3), np.uint8)


class Reader:
    name = "reader 1.0"

    def read(self, picture: np.ndarray) -> list[Line]:
        return [Line("OPNE", 0.99, (0.2, 0.2, 0.8, 0.4))]


class Rtdetr:
    """Stands for ComfyUI's node: two dogs and a cat, in pixels."""

    asked: ClassVar[list[tuple]] = []

    @classmethod
    def execute(cls, model: Any, image: torch.Tensor, threshold: float, class_name: str, max_detections: int) -> Any:
        assert torch.is_inference_mode_enabled() and image.shape == (1, 50, 100, 3)
        cls.asked.append((threshold, class_name, max_detections))
        boxes = [("dog", 0, 0, 20, 50, 0.9), ("dog", 50, 0, 50, 50, 0.8), ("cat", 20, 0, 10, 10, 0.7)]
        names = "label", "x", "y", "width", "height", "score"
        return SimpleNamespace(args=([[dict(zip(names, box)) for box in boxes]],))


class Sam3:
    """Stands for ComfyUI's node: one box for each word it is asked for, at the place that its length says."""

    @classmethod
    def execute(
        cls, model: Any, image: torch.Tensor, conditioning: Any, threshold: float, refine_iterations: int
    ) -> Any:
        words, most = conditioning.split(":")
        assert most == "64" and refine_iterations == 0
        return SimpleNamespace(args=(None, [[{"x": len(words), "y": 0.0, "width": 10, "height": 50, "score": 0.6}]]))


class Clip:
    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> str:
        return tokens


def model(kind: str) -> Any:
    """A MODEL as far as the node looks at one."""
    weights = {"a": torch.arange(8.0)}
    inner = SimpleNamespace(model_config=SimpleNamespace(unet_config={"image_model": kind}))
    made = SimpleNamespace(model=inner, load_device="cpu", clone=None, patches={}, backup={})
    made.model_state_dict = lambda: weights
    return made


@pytest.fixture
def core(monkeypatch):
    """A ComfyUI with its two nodes of detection."""
    classes = {"RTDETR_detect": Rtdetr, "SAM3_Detect": Sam3}
    for name, cls in classes.items():
        monkeypatch.setitem(stubs["nodes"].NODE_CLASS_MAPPINGS, name, cls)
    parts = ["comfy", "comfy.ldm", "comfy.ldm.rt_detr", "comfy.ldm.rt_detr.rtdetr_v4"]
    for name in parts:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[parts[-1]].COCO_CLASSES = ["dog", "cat", "sheep", "traffic light"]
    Rtdetr.asked.clear()


@pytest.fixture
def reader(monkeypatch):
    monkeypatch.setattr(node, "installed", lambda: ("reader",))
    monkeypatch.setattr(node, "load_reader", lambda name: Reader())


def run(vlm: Any, **inputs: Any) -> tuple[Any, str]:
    linked = {name: inputs[name] for name in ("detector",) if name in inputs}
    prompt = {"1": {"class_type": "CLVR_Witnesses", "inputs": {"vlm": vlm, **inputs}}}
    for place, name in enumerate(linked, 2):
        prompt[str(place)] = {"class_type": "UNETLoader", "inputs": {"unet_name": "rtdetr.safetensors"}}
        prompt["1"]["inputs"][name] = [str(place), 0]
    graph = Graph(prompt)
    for place, value in enumerate(linked.values(), 2):
        graph.outputs[str(place)] = SimpleNamespace(args=(value,))
    return graph.run("1")


class TestWhatStandsBesideTheJudge:
    def test_the_first_reader_that_is_installed_and_the_pixels(self, reader):
        vlm = FakeVlm()
        judge, report = run(vlm)
        assert isinstance(judge, Witnessed) and without_witnesses(judge) is vlm
        assert judge.name == "fake-vlm with text (reader 1.0), changes"
        assert "text: read by reader 1.0" in report and "objects: off; link a detector" in report
        (said,) = judge.hear(PICTURE, [Goal("g1", 'a sign that says "OPEN"', "text")], {}, {}).said["g1"]
        assert (said.says, said.words) == ("no", 'reads "OPNE"')

    def test_without_a_reader_the_report_says_how_to_get_one(self, monkeypatch):
        monkeypatch.setattr(node, "installed", lambda: ())
        judge, report = run(FakeVlm())
        assert "no text reader is installed; pip install rapidocr" in report and judge.name.endswith("with changes")

    def test_a_reader_that_is_named_and_missing_is_refused(self, monkeypatch):
        monkeypatch.setattr("clvr_core.witness.text.installed", lambda: ())
        with pytest.raises(BadInput, match="needs faster-paddle, which is not installed"):
            run(FakeVlm(), text="faster-paddle")

    def test_all_off_is_the_model_alone(self):
        vlm = FakeVlm()
        judge, _ = run(with_witnesses(vlm, Witnesses(counts=True)), text="off", changes=False)
        assert judge is vlm

    def test_the_number_is_asked_for_by_a_switch(self):
        judge, report = run(FakeVlm(), text="off", count=True, changes=False)
        assert judge.name.endswith("with count") and judge.witnesses.counts and "count: asked of the vlm" in report

    def test_what_is_shown_on_the_node_is_its_report(self, host, reader):
        _, report = run(FakeVlm())
        assert host.texts == [report]

    def test_cancel_reaches_a_run_that_waits_for_a_witness(self, host, reader):
        judge, _ = run(FakeVlm())
        host.memory.interrupted = True
        with pytest.raises(host.Cancelled):
            judge.hear(PICTURE, [Goal("g1", 'a sign that says "OPEN"', "text")], {}, {})


@pytest.mark.usefixtures("core")
class TestDetectors:
    def test_rt_detr_finds_the_names_that_are_asked_for_in_fractions(self):
        detector = CoreDetector(model("RT_DETR_v4"), None, "abcdefgh")
        assert detector.find(PICTURE, ["dog"]) == [
            Found("dog", 0.9, (0.0, 0.0, 0.2, 1.0)),
            Found("dog", 0.8, (0.5, 0.0, 1.0, 1.0)),
        ]
        assert Rtdetr.asked == [(0.0, "all", 300)], "the witness's own limits decide"
        assert detector.knows("dog") and detector.knows("traffic light") and not detector.knows("unicorn")

    def test_sam_3_is_asked_word_by_word(self):
        detector = CoreDetector(model("SAM31"), Clip(), "abcdefgh")
        found = detector.find(PICTURE, ["dog", "unicorn"])
        assert [(one.name, one.box[0]) for one in found] == [("dog", 0.03), ("unicorn", 0.07)]
        assert detector.knows("unicorn")

    def test_sam_3_without_its_text_encoder_says_what_to_link(self):
        with pytest.raises(BadInput, match="link the CLIP output of the same Load Checkpoint to detector_clip"):
            run(FakeVlm(), text="off", detector=model("SAM3"))

    @pytest.mark.parametrize(("kind", "words"), [("flux2", "is a flux2 model"), ("", "a model of another kind")])
    def test_a_model_that_finds_nothing_is_refused(self, kind, words):
        with pytest.raises(BadInput, match=f"{words}, which finds no objects; link an RT-DETR or SAM 3 model"):
            run(FakeVlm(), text="off", detector=model(kind))

    def test_an_old_comfyui_is_named(self, monkeypatch):
        monkeypatch.delitem(stubs["nodes"].NODE_CLASS_MAPPINGS, "RTDETR_detect")
        with pytest.raises(BadInput, match="this ComfyUI has no node RTDETR_detect"):
            run(FakeVlm(), text="off", detector=model("RT_DETR_v4"))

    def test_the_judge_is_named_by_the_weights_and_the_limit(self):
        usual, report = run(FakeVlm(), text="off", changes=False, detector=model("RT_DETR_v4"))
        strict, _ = run(FakeVlm(), text="off", changes=False, detector=model("RT_DETR_v4"), seen=0.7)
        assert usual.name.startswith("fake-vlm with objects (RT_DETR_v4 ") and usual.name != strict.name
        assert strict.name.endswith(", from 0.7, perhaps 0.35)") and "from a score of 0.5 on" in report

    def test_it_counts_what_it_finds(self):
        judge, _ = run(FakeVlm(), text="off", detector=model("RT_DETR_v4"))
        (said,) = judge.hear(PICTURE, [Goal("g1", "exactly one dog")], {}, {}).said["g1"]
        assert (said.says, said.words) == ("no", 'finds 2 "dog"')
        assert said.fault == (0.5, 0.0, 1.0, 1.0), "the one that is too many"


class ClipVision:
    """As ComfyUI's, of pictures whose mean colour is their vector."""

    model_type = "dinov2"

    def __init__(self) -> None:
        self.patcher = model("clip vision")

    def encode_image(self, image: torch.Tensor, crop: bool) -> dict[str, Any]:
        assert torch.is_inference_mode_enabled() and not crop
        return {"image_embeds": None, "last_hidden_state": image.mean((1, 2))[:, None] + 1e-6}


class TestLikeness:
    def judge(self, alike: float = 0.9) -> tuple[Any, str]:
        return run(FakeVlm(), text="off", changes=False, clip_vision=ClipVision(), alike=alike)

    def test_comfyuis_image_encoder_compares_with_the_reference(self):
        judge, report = self.judge()
        assert "likeness: measured by dinov2 " in report and ", alike from 0.9 on" in report
        red, blue = PICTURE.copy(), PICTURE.copy()
        red[..., 0] = blue[..., 2] = 200
        goal = Goal("r1", "kept", "likeness", reference="ann")
        says = [judge.hear(each, [goal], {}, {"ann": red}).said["r1"][0].says for each in (red, blue)]
        assert says == ["yes", "no"]

    def test_another_limit_is_another_judge(self):
        assert self.judge(0.9)[0].name != self.judge(0.8)[0].name

    def test_what_is_no_encoder_is_refused(self):
        broken = ClipVision()
        broken.model_type = ""
        with pytest.raises(BadInput, match="link that of Load CLIP Vision"):
            run(FakeVlm(), text="off", clip_vision=broken)


class TestReferences:
    def pictures(self, count: int) -> torch.Tensor:
        return torch.full((count, 32, 32, 3), 0.5)

    def test_names_go_with_the_pictures_in_their_order(self):
        found = named_references(self.pictures(3), "ann: face, mug:product, look")
        assert [(each.name, each.keeps) for each in found] == [("ann", "face"), ("mug", "product"), ("look", "subject")]
        assert [each.name for each in named_references(self.pictures(2), "")] == ["A", "B"]
        assert named_references(None, "ann") == []
        with pytest.raises(BadInput, match="reference_names has 100,000 characters; at most 20,000 are read"):
            named_references(None, "x" * 100_000)

    @pytest.mark.parametrize(
        ("names", "words"),
        [("ann", "has 1 names, and references 2 pictures"), ("ann: soul, mug", "keeps 'soul' of 'ann'; choose one of")],
    )
    def test_names_that_do_not_fit_are_refused(self, names, words):
        with pytest.raises(BadInput, match=words):
            named_references(self.pictures(2), names)

    def test_generate_keeps_them_in_the_run_and_judges_by_them(self, host, executor):
        vlm = FakeVlm(lambda messages: json.dumps(generate()), lambda images, questions: [0.9] * len(questions))
        inputs = {"vlm": vlm, "executor": executor, "prompt": "ann on a hill", "strategy": "oneshot", "seed": 1}
        inputs |= {"rounds": 1, "patience": 1, "candidates": 1, "evaluations": 0}
        inputs |= {"references": self.pictures(1), "reference_names": "ann: face"}
        _, made, _ = Graph({"1": {"class_type": "CLVR_Generate", "inputs": inputs}}).run("1")
        assert made.trajectory.brief.references[0].name == "ann" and (made.folder / "reference-ann.png").exists()
        assert made.trajectory.goals[-1].text == 'the face of the reference "ann" is kept'


def test_a_run_records_the_witnesses_of_its_judge_and_not_of_its_controller(host, reader):
    goals = (Goal("g1", 'a sign that says "OPEN"', "text"),)
    judge, _ = run(scripted([generate()], {0: "m"}), changes=False)
    brief = Brief("a shop", width=8, height=8, goals=goals, final_ab=False)
    brief = Brief("a shop", width=8, height=8, goals=goals, final_ab=False, budget=type(brief.budget)(rounds=1))
    made, _, _ = run_loop(brief, judge, ExecutorHandle(FakeExecutor([grey(10)]), 8, 8, lambda text: None, "w"))
    models = made.trajectory.models
    assert models["controller"] == "fake-vlm" and models["verifier"] == "fake-vlm with text (reader 1.0)"
    (verdict,) = made.trajectory.steps[0].verdicts
    assert verdict.state == "unsure" and verdict.fault == (0.2, 0.2, 0.8, 0.4)
