"""The loop as TRL's environment: rounds by tool calls, and where trl is installed a batch of its trainer with pictures and
mask."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from clvr_core.errors import BadInput
from clvr_core.stickers.judge import StickersVlm
from clvr_core.stickers.scene import CANVAS
from clvr_core.stickers.simulated import Rates, SimulatedExecutor, perceive
from clvr_core.training.rewards import VlmReward
from clvr_core.training.trl_environment import Planner, briefs_for, environment
from clvr_core.training.vlm_grpo import GrpoConfig
from clvr_core.training.vlm_setup import RolloutSetup
from tests.training.small_vlm import save_small

FLAWLESS = Rates(thing=0, crowd=0, place=0, relation=0, letter=0, backdrop=0, edit=0, spill=0, systematic=0)
BRIEF = "a red cat and a blue dog"


def where() -> RolloutSetup:
    judge = StickersVlm(read=perceive)
    executor = SimulatedExecutor(FLAWLESS, (4, 4))
    return RolloutSetup(executor, judge, VlmReward(judge), lambda rng: BRIEF, CANVAS, CANVAS, "a test")


@pytest.fixture
def planner() -> Planner:
    made = environment(where(), GrpoConfig(rounds=4))()
    made.reset(brief=BRIEF, seed=3, prompt="of the row")
    return made


def words_of(blocks: list[dict[str, Any]]) -> str:
    return next(block["text"] for block in blocks if block["type"] == "text")


def test_a_call_is_a_round_and_its_reply_has_the_picture_and_what_holds(planner):
    first = planner.generate("a red cat top left")
    assert first[0]["image"].size == (CANVAS, CANVAS)
    assert "canvas 1" in words_of(first) and "- a red cat: met" in words_of(first)
    assert "- a blue dog: unmet" in words_of(first)
    one = planner.get_reward()
    second = planner.edit("add a blue dog at the top right", [1])
    assert "canvas 2" in words_of(second) and "Every goal holds; write DONE." in words_of(second)
    assert planner.get_reward() > one, "a goal is worth more than an edit costs"
    with pytest.raises(BadInput, match="has ended"):
        planner.generate("a cat")


def test_what_cannot_be_done_is_said_to_the_model(planner):
    with pytest.raises(BadInput, match="edit cannot be called now; call generate"):
        planner.edit("add a cat at the top left", [1])
    planner.generate("a red cat top left")
    for wrong in ([], [2], [0]):
        with pytest.raises(BadInput, match="may name the canvases 1, at least one"):
            planner.edit("add a blue dog at the top right", wrong)


def test_an_edit_costs_and_a_new_run_begins_anew(planner):
    planner.generate("a red cat top left")
    before = planner.get_reward()
    rolled_back = planner.edit("add a green car at the top right", [1])
    assert "rolled back" in words_of(rolled_back)
    assert planner.get_reward() == pytest.approx(before - 0.1)
    planner.reset(brief=BRIEF)
    assert planner.get_reward() == 0


def test_rows_have_the_prompt_and_what_reset_takes():
    first, second = briefs_for(where(), 2, seed=1)
    assert first["prompt"][1] == {"role": "user", "content": BRIEF} and first["seed"] != second["seed"]
    planner = Planner(where(), GrpoConfig())
    planner.reset(**first)


def test_trl_runs_the_rounds_with_pictures_and_masks_what_the_tools_reply(tmp_path, monkeypatch):
    """Its trainer makes a batch of two rollouts whose tokens are scripted, and computes the loss."""
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    from transformers import Qwen3VLForConditionalGeneration

    from clvr_core.vlm.local import _processor

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    folder = save_small(tmp_path / "small")
    processor, model = _processor(folder), Qwen3VLForConditionalGeneration.from_pretrained(folder)
    arguments = trl.GRPOConfig(
        str(tmp_path / "out"),
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=1500,
        loss_type="grpo",
        beta=0.0,
        report_to=[],
        use_cpu=True,
        bf16=False,
        max_tool_calling_iterations=3,
    )
    rows = datasets.Dataset.from_list(briefs_for(where(), 2, seed=1))
    trainer = trl.GRPOTrainer(
        model,
        args=arguments,
        train_dataset=rows,
        processing_class=processor,
        environment_factory=environment(where(), GrpoConfig(rounds=4)),
    )

    def call(name: str, **arguments: Any) -> str:
        said = json.dumps({"name": name, "arguments": arguments})
        return f"<tool_call>\n{said}\n</tool_call>"

    scripts = [
        [
            call("generate", prompt="a red cat top left"),
            call("edit", prompt="add a blue dog at the top right", ref_img_list=[1]),
            "DONE",
        ],
        [call("generate", prompt="a red cat top left"), "DONE"],
    ]
    tokens, turn = processor.tokenizer, [0]
    shown: list[Any] = []

    def scripted(prompt_ids: Any, images: Any, *rest: Any, **named: Any) -> Any:
        active = [script for script in scripts if len(script) > turn[0]]
        said = [tokens(script[turn[0]] + "<|im_end|>", add_special_tokens=False)["input_ids"] for script in active]
        shown.append([len(each) if each else 0 for each in images] if images else [])
        turn[0] += 1
        return said[: len(prompt_ids)], None

    trainer._generate_single_turn = scripted
    trainer.current_gradient_accumulation_steps = 1
    row = rows[0]
    batch = trainer._generate_and_score_completions([row, row])
    assert shown[1:] == [[1, 1], [2]], "each further turn sees the canvases so far"
    mask = batch["tool_mask"] * batch["completion_mask"]
    for number, script in enumerate(scripts):
        written = batch["completion_ids"][number][mask[number].bool()]
        assert tokens.decode(written) == "".join(f"{each}<|im_end|>" for each in script)
    image = model.config.image_token_id
    assert (batch["completion_ids"][mask == 0] == image).sum() == 27 and not (
        batch["completion_ids"][mask == 1] == image
    ).any()
    advantages = batch["advantages"]
    assert advantages[0] > 0 > advantages[1] and float(advantages.sum()) == pytest.approx(0, abs=1e-5)
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    seen = model.model.visual.patch_embed.proj.weight.grad
    assert torch.isfinite(loss) and seen is not None and float(seen.abs().sum()) > 0, "pictures reach the loss"
