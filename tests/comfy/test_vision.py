"""Eyes out of ComfyUI's own CLIP: a tiny random Qwen3-VL that the real Load CLIP opens."""

from __future__ import annotations

import importlib.util
import json

import pytest

from clvr_core.run.run_folder import BEST, RunFolder, trajectory_from
from tests.comfy.graphs import runs
from tests.comfy.server import ROOT, error_of
from tests.nodes.papers import SCHEMAS
from tests.waiting import until

FILE = "tiny_qwen3vl.safetensors"
CLOSE = 1e-4
"""Between probabilities that were computed in batches of another shape."""


def eyes(kind: str = "stable_diffusion", see: bool = True, rate: float = 0.3, **inputs) -> dict:
    clip = ["2", 0] if see else ["1", 0]
    graph = {
        "1": {"class_type": "CLIPLoader", "inputs": {"clip_name": FILE, "type": kind}},
        "3": {
            "class_type": "CLVR_VisionModel",
            "inputs": {"clip": clip, "reply_limit": 64, "prove_sight": True, **inputs},
        },
    }
    return graph | ({"2": {"class_type": "TestSee", "inputs": {"clip": ["1", 0], "rate": rate}}} if see else {})


def loop(**inputs) -> dict:
    models = {"vlm": ["3", 0], "executor": ["8", 0]}
    listed = json.loads((ROOT / SCHEMAS).read_text())["CLVR_Generate"]["inputs"]
    usual = {name: spec["default"] for name, spec in listed.items() if "default" in spec}
    settings = usual | {"prompt": "a red circle", "seed": 1, "rounds": 2, **models, **inputs}
    return {
        "8": {"class_type": "TestGrey", "inputs": {}},
        "9": {"class_type": "CLVR_Generate", "inputs": settings},
        "10": {"class_type": "PreviewAny", "inputs": {"source": ["9", 2]}},
    }


@pytest.fixture(scope="module")
def found(comfy) -> dict:
    check = {
        "4": {"class_type": "TestCheck", "inputs": {"clip": ["2", 0], "vlm": ["3", 0]}},
        "5": {"class_type": "PreviewAny", "inputs": {"source": ["4", 0]}},
    }
    entry = comfy.run(eyes() | check)
    assert entry["status"]["status_str"] == "success", error_of(entry)
    return json.loads("".join(entry["outputs"]["5"]["text"]))


class TestDecisions:
    @pytest.mark.parametrize("images", ["none", "one", "two"])
    def test_all_in_one_forward_pass_are_as_if_each_were_asked_alone(self, found, images):
        together, apart, alone = (found[images][way] for way in ("together", "apart", "alone"))
        assert len(set(together)) == 3 and all(0 < share < 1 for share in together)
        assert together == pytest.approx(apart, abs=CLOSE)
        assert together == pytest.approx(alone, abs=CLOSE)

    def test_the_order_of_pictures_matters(self, found):
        assert found["two"]["together"] != pytest.approx(found["swapped"], abs=CLOSE)

    def test_what_the_questions_share_is_counted_once(self, found):
        together, (alone,) = found["costs"]
        assert together[1] < alone / 2

    def test_a_core_that_goes_past_the_hook_still_answers_in_a_word(self, found):
        assert found["bypassed"]["decided"][0] in (0.1, 0.9)


class TestReplies:
    def test_they_end_by_themselves_and_leave_the_clip_as_it_was(self, found):
        assert found["reply"]["finished"] and found["reply"]["tokens"] > 12 and found["restored"]

    @pytest.mark.skipif(importlib.util.find_spec("llguidance") is None, reason="llguidance is not installed")
    def test_random_weights_write_a_valid_document(self, found):
        assert found["constrained"]
        reply = json.loads(found["reply"]["text"])
        assert reply.keys() == {"kind", "why"} and reply["kind"] in ("EDIT", "END") and len(reply["why"]) <= 12

    def test_a_reply_at_its_limit_is_told_as_cut(self, found):
        assert found["cut"] is False

    @pytest.mark.skipif(importlib.util.find_spec("llguidance") is None, reason="llguidance is not installed")
    def test_a_core_that_goes_past_the_hook_is_asked_in_words_from_then_on(self, found):
        assert found["bypassed"]["calls"] == 2 and not found["bypassed"]["held"]


class TestPrompts:
    def test_marks_in_a_persons_words_are_only_words(self, found):
        assert found["turns"] == 2, "the person's turn and the reply's"
        assert found["pictures"] == 1 and "say yes" in found["words"] and "(red:1.5)" in found["words"]

    def test_pictures_are_scaled_down_to_a_megapixel(self, found):
        height, width = found["size"]
        assert 1_000_000 < height * width <= 1 << 20 and height / width == pytest.approx(1.5, abs=0.01)


class TestSight:
    def test_a_text_encoder_is_refused_by_the_widget_and_the_value_to_choose(self, comfy):
        before = runs(comfy)
        said = error_of(comfy.run(eyes("flux2", see=False) | loop()))
        assert (
            "'Load CLIP'" in said
            and "type 'flux2'" in said
            and FILE in said
            and "Choose type 'stable_diffusion'" in said
        )
        assert runs(comfy) == before

    @pytest.mark.parametrize("rate", [0.0, -0.3])
    def test_one_that_cannot_tell_red_from_blue_is_refused_by_name(self, comfy, rate):
        said = error_of(comfy.run(eyes(rate=rate) | loop()))
        assert "tiny_qwen3vl" in said and "does not see" in said


class TestTheLoop:
    def ended(self, comfy, graph):
        before = runs(comfy)
        entry = comfy.run(graph)
        assert entry["status"]["status_str"] == "success", error_of(entry)
        (folder,) = [path for path in runs(comfy) if path not in before]
        return trajectory_from(RunFolder.open(folder).lines), folder, "".join(entry["outputs"]["10"]["text"])

    def test_it_runs_to_a_picture_with_a_random_model(self, comfy):
        run, folder, _ = self.ended(comfy, eyes() | loop())
        assert (
            run.outcome is not None
            and (folder / BEST).exists()
            and run.models["controller"].startswith("tiny_qwen3vl (")
        )
        assert run.steps and run.steps[0].verdicts and run.cost.vlm_tokens > 0

    def test_cancel_takes_effect_within_a_reply(self, comfy):
        before = runs(comfy)
        prompt = comfy.queue(eyes(reply_limit=16384) | loop(seed=9))
        fresh = until(lambda: [path for path in runs(comfy) if path not in before], "the run's folder")
        comfy.interrupt()
        entry = comfy.wait(prompt)
        assert any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"]), entry["status"]
        assert [line["event"] for line in RunFolder.open(fresh[0]).lines] == ["start"], (
            "thousands of tokens were not waited for"
        )
        self.ended(comfy, eyes() | loop(seed=10))

    @pytest.mark.parametrize("how", ["memory", "shapes"])
    def test_eyes_that_fail_end_it_with_a_picture_and_a_warning(self, comfy, how):
        graph = eyes(prove_sight=False) | loop(seed=7)
        graph["6"] = {"class_type": "TestFail", "inputs": {"clip": ["1", 0], "how": how}}
        graph["3"]["inputs"]["clip"] = ["6", 0]
        del graph["2"]
        run, folder, summary = self.ended(comfy, graph)
        assert (folder / BEST).exists() and not run.outcome.met and "warning: " in summary
        assert {verdict.state for step in run.steps for verdict in step.verdicts} == {"error"}
        assert ("ran out of memory" if how == "memory" else "shapes do not match") in summary
