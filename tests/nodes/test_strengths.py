"""Strength Finder over stubs: what is merged at each point, what is kept, and what the node returns."""

from __future__ import annotations

import json

import pytest
import torch
from clvr_pack.nodes.executor.comfy_sampler import ComfyExecutor
from clvr_pack.nodes.executor.recipes import RECIPES
from clvr_pack.nodes.host.sockets import ExecutorHandle

from clvr_core.errors import BadInput
from clvr_core.protocols import Drawing
from tests.fakes import FakeVlm, grey
from tests.merge import klein
from tests.nodes.graph import Graph
from tests.nodes.pack import NODES, stubs
from tests.nodes.test_executor import Clip, Vae
from tests.nodes.test_merge_nodes import Patcher

NAME = "img_in.weight"
GOALS = json.dumps({"goals": [{"text": "a thing"}]})


@pytest.fixture
def three() -> list[Patcher]:
    """base, aligned and distilled."""
    return [Patcher({name: value.float() for name, value in held.items()}) for held in klein.three()]


@pytest.fixture
def drawn(monkeypatch, three) -> list[tuple[float, float]]:
    """Shares of both deltas in the weights of each picture. The picture is brightest at alpha 0.5 and beta 1."""
    base, aligned, distilled = (model.weights[NAME].double() for model in three)
    shares: list[tuple[float, float]] = []

    def draw(self, requests):
        self.check()
        deltas = torch.stack([(aligned - base).reshape(-1), (distilled - base).reshape(-1)], 1)
        change = (self.model.value(NAME).double() - base).reshape(-1)
        alpha, beta = torch.linalg.lstsq(deltas, change[:, None]).solution[:, 0].tolist()
        shares.append((round(alpha, 3), round(beta, 3)))
        return [Drawing(grey(int(200 * beta - 100 * abs(alpha - 0.5)), 16, 16), 4) for _ in requests]

    monkeypatch.setattr(ComfyExecutor, "draw", draw)
    return shares


def brighter(images, questions):
    first, second = (int(image[0, 0, 0]) for image in images)
    return [0.5 if first == second else 0.9 if first > second else 0.1]


def find(three, vlm=None, **inputs):
    base, aligned, distilled = three
    executor = ComfyExecutor(base, Clip(), Vae(), RECIPES["klein"])
    handle = ExecutorHandle(executor, 16, 16, lambda text: None, "weights", 16)
    usual = {"executor": handle, "vlm": vlm or FakeVlm(lambda messages: GOALS, brighter), "briefs": "a barn\n\na cat\n"}
    usual |= {"aligned": aligned, "distilled": distilled, "alphas": "1, 0.5", "betas": "1,0.8", "lora_factors": "1,0.5"}
    return Graph({"1": {"class_type": "CLVR_StrengthFinder", "inputs": usual | inputs}}).run("1")


def test_the_best_point_of_the_grid_comes_out_as_a_model_and_as_numbers(host, three, drawn):
    model, alpha, beta, factor, sheet, summary = find(three)
    assert (alpha, beta, factor) == (0.5, 1.0, 1.0), "there is no LoRA, and so no axis for it"
    assert set(drawn) == {(1.0, 1.0), (1.0, 0.8), (0.5, 1.0), (0.5, 0.8)}
    base, aligned, distilled = (each.weights[NAME] for each in three)
    wanted = base + 0.5 * (aligned - base) + (distilled - base)
    assert torch.allclose(model.value(NAME), wanted, atol=1e-6) and not three[0].patches
    assert sheet.ndim == 4 and "  1. alpha 0.5, beta 1: " in summary
    (folder,) = (host.base / "output" / "clvr-strengths").iterdir()
    assert (folder / "sheet.png").exists() and "drawing alpha 1, beta 1" in "".join(host.texts)
    assert stubs["comfy.utils"].ProgressBar.shown


def test_cancel_ends_a_search_and_the_next_run_goes_on(host, three, drawn):
    vlm = FakeVlm(lambda messages: GOALS, brighter)
    count = iter(range(1000))

    def cancel_at_five(images, questions):
        host.memory.interrupted = next(count) >= 4
        return brighter(images, questions)

    with pytest.raises(host.Cancelled):
        find(three, FakeVlm(lambda messages: GOALS, cancel_at_five))
    host.memory.interrupted, before = False, len(drawn)
    assert find(three, vlm)[1:3] == (0.5, 1.0) and len(vlm.chats) == 0, "the goals were kept"
    assert len(drawn) == before + 2, "of the first round no picture is drawn twice; two points go on"


def test_other_strengths_or_models_are_another_search(host, three, drawn):
    find(three)
    find(three, alphas="1, 0.75")
    find(three, fp8="dequantise")
    three[2].weights["txt_in.weight"] = three[2].weights["txt_in.weight"] + 1
    find(three)
    assert len(list((host.base / "output" / "clvr-strengths").iterdir())) == 4


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"briefs": " \n"}, "briefs has 0 entries; give 1 to 8"),
        ({"alphas": "a lot"}, "alphas is 'a lot'; give numbers with commas"),
        (
            {"alphas": "1", "betas": "1"},
            "the grid has 1 point, 1 x 1 x 1; give 2 to 27 in all, by alphas, betas and lora_factors",
        ),
        ({"loras": {"loras": "one more", "lora_1": "/etc/passwd", "strength_1": 1.0}}, "lora is '/etc/passwd'"),
    ],
)
def test_what_cannot_be_searched_is_said_in_the_words_of_the_widgets(three, drawn, inputs, words):
    with pytest.raises(BadInput, match=words):
        find(three, **inputs)
    assert not drawn


def test_an_executor_without_a_model_is_refused(three, executor):
    with pytest.raises(BadInput, match="link the executor output of Executor, whose model is the base"):
        find(three, executor=executor)


def test_widgets_are_checked_before_the_prompt_is_queued():
    node = NODES["CLVR_StrengthFinder"]
    assert node.validate_inputs() is True and node.validate_inputs(briefs="x" * 20_001) is not True
    assert "is not PATTERN=ALIGN" in node.validate_inputs(blocks="txt_in")


def test_an_executor_with_another_model_shares_what_was_encoded():
    clip, vae = Clip(), Vae()
    first = ComfyExecutor(Patcher({}), clip, vae, RECIPES["klein"])
    second = first.with_model("other")
    assert second.model == "other" and first.model != "other" and second.clip is clip
    assert second._texts is first._texts
