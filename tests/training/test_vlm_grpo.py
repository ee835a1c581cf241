"""The planner's GRPO through the real loop: what is known of it without learning anything, with a small model of the real
class, a simulated executor and exact eyes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from clvr_core.brief import Brief
from clvr_core.cli import main
from clvr_core.controller import draft_goals
from clvr_core.errors import BadInput, JudgeFailure
from clvr_core.protocols import Message, Picture, Reply
from clvr_core.stickers.judge import StickersVlm
from clvr_core.stickers.scene import CANVAS
from clvr_core.stickers.simulated import Rates, SimulatedExecutor, perceive
from clvr_core.training import vlm_grpo
from clvr_core.training.adapter import FrozenCopy, Lora
from clvr_core.training.fit import Schedule
from clvr_core.training.rewards import VlmReward
from clvr_core.training.vlm_grpo import GrpoConfig, Learning, Rollout, Rollouts, grpo
from clvr_core.training.vlm_rollouts import Asking, SamplingVlm, Take, log_probabilities_of, rows_of
from clvr_core.training.vlm_setup import RolloutSetup, setup_of
from clvr_core.training.vlm_tuning import load_trainable
from clvr_core.vlm.local import Local, load_local
from clvr_core.vlm.together import Together
from tests.stickers.test_art import needs_art
from tests.training.small_vlm import save_small

SCHEMA = {
    "type": "object",
    "properties": {"kind": {"type": "string", "enum": ["GENERATE", "EDIT"]}, "at": {"type": "integer", "maximum": 9}},
    "required": ["kind", "at"],
    "additionalProperties": False,
}
PROMPTS = ("a red cat top left, a blue dog at night", "two green cars", "a small pink cow bottom right, a banana")
SHORT = GrpoConfig(
    groups=2,
    size=3,
    batch=3,
    rounds=2,
    patience=1,
    measured=2,
    measure_every=1,
    max_tokens=24,
    schedule=Schedule(steps=4, lr=1e-3, warmup=1, floor=0.5, weight_decay=0.0, ema=0.0, log_every=1, save_every=2),
)


class Turning:
    """A reward that differs from one rollout to the next."""

    def __init__(self) -> None:
        self.count = 0

    def scene(self, picture: Picture, prompt: str) -> float | None:
        self.count += 1
        return (self.count * 7 % 11) / 11

    def edit(self, picture: Picture, references: Sequence[Picture], instruction: str) -> float | None:
        return None

    said: Any = edit


def somewhere(reward: Any = None) -> RolloutSetup:
    judge = StickersVlm(read=perceive)
    return RolloutSetup(
        SimulatedExecutor(nfe=(4, 4)),
        judge,
        reward or Turning(),
        lambda rng: rng.choice(PROMPTS),
        CANVAS,
        CANVAS,
        "a test",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("vlm") / "small")


def loaded(folder: Path, config: GrpoConfig = SHORT) -> SamplingVlm:
    return load_trainable(Local(str(folder), "cpu", "float32", max_tokens=config.max_tokens), config.lora)[0]


def written(config: GrpoConfig, path: Path) -> Path:
    from clvr_core.records import to_json

    path.write_text(json.dumps(to_json(config)))
    return path


@pytest.fixture(scope="module")
def drawn(folder) -> tuple[Learning, list[Rollout], dict[str, float]]:
    vlm = loaded(folder)
    learning = Learning(vlm.model, SHORT)
    rollouts = Rollouts(vlm, somewhere(), learning, FrozenCopy(vlm.model), 3)
    return learning, *rollouts.draw(0)


def picture(shade: int) -> Picture:
    return np.full((CANVAS, CANVAS, 3), shade, np.uint8)


def talk(vlm: SamplingVlm, take: Take, *messages: Message) -> str:
    with vlm.taking(take):
        return vlm.chat(messages, SCHEMA).text


def test_a_conversation_that_grows_is_one_row_and_other_pictures_begin_another(folder):
    vlm, take = loaded(folder), Take(torch.Generator().manual_seed(1))
    first = Message("user", "paint a cat", (picture(40),))
    reply = talk(vlm, take, first)
    more = Message("assistant", reply), Message("user", "and now?", (picture(90),))
    talk(vlm, take, first, *more)
    (row,) = rows_of(take.said)
    assert len(row.chosen) == sum(len(each.chosen) for each in take.said) >= 4
    assert row.inputs(torch.device("cpu"))["input_ids"].shape[1] == len(row.keys)
    talk(vlm, take, replace(first, images=(picture(41),)), *more)
    assert len(rows_of(take.said)) == 2, "the same words over another picture"
    tokens = torch.tensor(row.keys[-len(row.tail) :] if row.tail else [])
    assert vlm.processor.tokenizer.decode(tokens).startswith('{"kind":"')


def test_the_row_is_as_likely_as_when_it_was_sampled(folder):
    vlm, take, seen = loaded(folder), Take(torch.Generator().manual_seed(2), 0.7), []
    choose: Callable[..., int] = vlm.choose

    def watched(logits: torch.Tensor, allowed: np.ndarray | None, place: int) -> int:
        token = choose(logits, allowed, place)
        assert allowed is not None and allowed[token]
        shares = (logits.float() / 0.7).masked_fill(~torch.from_numpy(allowed), -torch.inf).log_softmax(-1)
        seen.append(float(shares[token]))
        return token

    vlm.choose = watched
    first = Message("user", "paint a cat", (picture(40),))
    reply = talk(vlm, take, first)
    talk(vlm, take, first, Message("assistant", reply), Message("user", "and now?", (picture(90),)))
    (row,) = rows_of(take.said)
    with torch.no_grad():
        told = log_probabilities_of(vlm.model, row, 0.7)
    assert told.tolist() == pytest.approx(seen, abs=1e-4) and min(seen) < -0.5


def test_without_chance_the_likeliest_tokens_are_said(folder):
    vlm, take = loaded(folder), Take(None)
    first = Message("user", "paint a cat", (picture(40),))
    said = talk(vlm, take, first)
    assert said == load_local(vlm.settings).chat((first,), SCHEMA).text and take.said[0].chosen


@pytest.mark.parametrize("sampled", [False, True])
def test_replies_that_are_written_together_are_those_that_are_written_one_by_one(folder, sampled):
    """Prompts of different lengths with other pictures or none, and a second request that goes on from the first reply."""
    texts = ("paint a cat", "paint a large blue dog beside a sign, a banana and three green cars at night", "paint")
    shown = ((picture(40),), (picture(90), picture(30)), ())
    first = [(Message("user", text, images),) for text, images in zip((*texts, texts[1]), (*shown, shown[1]))]

    def takes() -> list[Take]:
        return [Take(torch.Generator().manual_seed(seed) if sampled else None, 1.3) for seed in range(4)]

    alone, one_by_one = loaded(folder), takes()
    said = [talk(alone, take, *messages) for take, messages in zip(one_by_one, first)]
    more = [(Message("assistant", text), Message("user", "and now?", (picture(7),))) for text in said]
    said += [talk(alone, take, *messages, *then) for take, messages, then in zip(one_by_one, first, more)]
    vlm, together = loaded(folder), takes()
    passes: list[int] = []
    forward = vlm.model.forward

    def counted(*given: Any, **named: Any) -> Any:
        passes.append(len(named["input_ids"]))
        return forward(*given, **named)

    vlm.model.forward = counted
    told = vlm.chat_together([Asking(messages, SCHEMA, take) for messages, take in zip(first, together)])
    both = [Asking((*messages, *then), SCHEMA, take) for messages, then, take in zip(first, more, together)]
    told += vlm.chat_together(both)
    assert [reply.text for reply in told if isinstance(reply, Reply)] == said
    assert len(set(said)) > 1 + sampled and 4 in passes
    for mine, theirs in zip(together, one_by_one):
        assert [each.tokens for each in mine.said] == [each.tokens for each in theirs.said]
        assert [each.chosen for each in mine.said] == [each.chosen for each in theirs.said]
        assert [row.keys for row in rows_of(mine.said)] == [row.keys for row in rows_of(theirs.said)]
    read = sum(len(run.keys) for run in vlm._reader._runs)
    assert read > 0 and len(rows_of(together[0].said)) == 1


def test_a_run_that_was_gone_on_with_beside_others_gives_the_logits_that_it_gives_alone(folder):
    """Also where one begins later, takes more tokens at a time, and leaves before the others."""
    vlm = loaded(folder)
    prompts = [
        vlm.request((Message("user", text, images),), SCHEMA)
        for text, images in (("a cat", (picture(40),)), ("a large blue dog and a banana", ()), ("a car", (picture(9),)))
    ]
    steps = [[[5, 6, 7], [8], [9, 10]], [[11], [12, 13, 14, 15], [16]], [[17], [18]]]
    with torch.inference_mode():
        fresh = [loaded(folder)._reader.read(prompt) for prompt in prompts]
        runs = [loaded(folder)._reader.read(prompt) for prompt in prompts]
        together = Together(vlm.model, runs)
        for number, step in enumerate(steps):
            if number == 2:
                together.leave([1])
                fresh.pop(1)
            found = together.extend(step)
            for row, tokens in enumerate(step):
                vlm._reader.extend(fresh[row], tokens)
                assert torch.allclose(found[row], fresh[row].logits, atol=1e-4)
        together.leave(range(2))
        vlm._reader.extend(runs[0], [3])
        vlm._reader.extend(fresh[0], [3])
        assert torch.allclose(runs[0].logits, fresh[0].logits, atol=1e-4)
        assert runs[1].keys == [*prompts[1].keys, 8, 12, 13, 14, 15]


def test_a_reply_that_fails_fails_alone(folder):
    vlm = loaded(folder)
    choose = vlm.choose

    def failing(logits: torch.Tensor, allowed: np.ndarray | None, place: int) -> int:
        if vlm._take is takes[1] and place > 0:
            raise JudgeFailure("this one cannot be written")
        return choose(logits, allowed, place)

    vlm.choose = failing
    takes = [Take(None), Take(None)]
    asked = [Asking((Message("user", "paint a cat"),), SCHEMA, take) for take in takes]
    fine, failed = vlm.chat_together(asked)
    assert isinstance(fine, Reply) and json.loads(fine.text)["kind"]
    assert isinstance(failed, JudgeFailure) and not takes[1].said


def test_rollouts_whose_replies_are_written_together_are_those_that_are_written_one_by_one(folder):
    found = []
    for together in (1, 4):
        config = replace(SHORT, together=together)
        vlm = loaded(folder, config)
        batches: list[int] = []
        write = vlm.chat_together
        vlm.chat_together = lambda asked, write=write, batches=batches: batches.append(len(asked)) or write(asked)
        rollouts = Rollouts(vlm, somewhere(), Learning(vlm.model, config), FrozenCopy(vlm.model), 3)
        drawn, _ = rollouts.draw(0)
        found.append([[(row.keys, row.chosen) for row in each.rows] for each in drawn])
        assert max(batches, default=0) == (4 if together > 1 else 0)
    assert found[0] == found[1]


def test_rollouts_of_a_group_are_of_one_brief_and_their_advantages_sum_to_zero(drawn):
    _, found, seen = drawn
    assert len(found) == 6 and all(each.rows for each in found)
    for group in (found[:3], found[3:]):
        assert sum(each.advantage for each in group) == pytest.approx(0, abs=1e-5)
        assert max(abs(each.advantage) for each in group) > 0.5
    assert seen["zero_variance"] == 0 and seen["kl"] == 0 and seen["unanswered"] == 0


def test_at_the_policy_that_wrote_it_every_ratio_is_one(drawn):
    learning, found, _ = drawn
    with torch.no_grad():
        for each in found:
            assert torch.equal(learning.log_probabilities(each), each.old) and torch.equal(each.old, each.reference)
        loss = float(learning(found[:2]))
    assert loss == pytest.approx(-(found[0].advantage + found[1].advantage) / 2, abs=1e-6)


def test_of_what_the_loop_wrote_the_gradient_is_exactly_zero_and_the_rest_is_that_of_the_whole_row(drawn):
    """Against a pass over all tokens, whose log probabilities get the mask afterwards."""
    from clvr_core.training.grpo import grpo_loss

    learning, found, _ = drawn
    batch = [replace(each, advantage=1.0 + place) for place, each in enumerate(found[:2])]
    parameters = [each for each in learning.parameters() if each.requires_grad]
    own = torch.autograd.grad(learning(batch), parameters, allow_unused=True)
    tables, masks, olds = [], [], []
    for each in batch:
        whole = [log_probabilities_of(learning.model, row, everything=True) for row in each.rows]
        places = [torch.isin(torch.arange(1, len(row.keys)), torch.tensor(row.chosen)) for row in each.rows]
        tables.append(torch.cat(whole))
        masks.append(torch.cat(places))
        olds.append(tables[-1].detach().clone().masked_scatter(masks[-1], each.old))
    table, mask, old = (torch.nn.utils.rnn.pad_sequence(each, batch_first=True) for each in (tables, masks, olds))
    table.retain_grad()
    advantage = torch.tensor([each.advantage for each in batch])
    loss = grpo_loss(table, old, mask, advantage, reference=old, kl=SHORT.kl)
    loss.backward()
    assert table.grad is not None
    assert (table.grad[~mask] == 0).all() and (table.grad[mask] != 0).all() and 0 < mask.sum() < mask.numel()
    moved = 0
    for mine, parameter in zip(own, parameters):
        theirs, parameter.grad = parameter.grad, None
        if mine is None or theirs is None:
            assert mine is theirs is None
            continue
        assert torch.allclose(mine, theirs, atol=1e-6)
        moved += int(theirs.abs().sum() > 0)
    assert moved > 20


def test_without_a_mask_every_token_but_the_first_is_learnt_from(folder, drawn):
    _, found, _ = drawn
    config = replace(SHORT, arm="unmasked")
    learning = Learning(loaded(folder, config).model, config)
    with torch.no_grad():
        told = learning.log_probabilities(found[0])
    assert len(told) == sum(len(row.keys) - 1 for row in found[0].rows) > 10 * len(found[0].old)


def test_a_rollout_without_a_reward_teaches_nothing(folder):
    class Silent(Turning):
        def scene(self, picture: Picture, prompt: str) -> float | None:
            found = super().scene(picture, prompt)
            return None if self.count % 3 == 0 else found

    vlm = loaded(folder)
    rollouts = Rollouts(vlm, somewhere(Silent()), Learning(vlm.model, SHORT), FrozenCopy(vlm.model), 3)
    found, seen = rollouts.draw(0)
    assert seen["unanswered"] == 2 and [each.advantage for each in found if each.aligned is None] == [0, 0]


def test_a_run_in_which_the_controller_was_not_asked_teaches_nothing(folder):
    config = replace(SHORT, strategy="director")  # its gate draws these briefs in one shot
    vlm = loaded(folder)
    learning = Learning(vlm.model, config)
    found, _ = Rollouts(vlm, somewhere(), learning, FrozenCopy(vlm.model), 3).draw(0)
    silent = [each for each in found if not each.rows]
    loss = learning(silent)
    loss.backward()
    assert silent and loss.item() == 0


def test_an_exact_judge_rewards_what_stands_on_the_best_canvas(folder):
    vlm = loaded(folder)
    judge = VlmReward(StickersVlm(read=perceive))
    rollouts = Rollouts(vlm, somewhere(judge), Learning(vlm.model, SHORT), FrozenCopy(vlm.model), 3)
    found, _ = rollouts.draw(0)
    assert all(each.aligned == pytest.approx(0.95, abs=0.01) for each in found if each.met)
    assert all(each.aligned is not None and each.edits == each.rounds - 1 for each in found)


def test_the_controller_takes_the_brief_apart_itself_where_it_is_to_learn_that(folder):
    config = replace(SHORT, own_goals=True, groups=1, size=2, batch=2)
    vlm = loaded(folder)
    rollouts = Rollouts(vlm, somewhere(), Learning(vlm.model, config), FrozenCopy(vlm.model), 3)
    asked: list[str] = []
    write = vlm.chat_together

    def watched(several: Any) -> Any:
        asked.extend(each.messages[-1].data["task"] for each in several)
        return write(several)

    vlm.chat_together = watched
    rollouts.draw(0)
    assert "goals" in asked


class Dictated(StickersVlm):
    """The exact controller, whose replies a model is made to write token by token."""

    def __init__(self, vlm: SamplingVlm) -> None:
        super().__init__(read=perceive)
        self.vlm, self.tokens = vlm, [0]
        vlm.choose, say = self.next_token, vlm.chat

        def chat(messages: Sequence[Message], schema: Any) -> Any:
            value = json.loads(StickersVlm.chat(self, messages, schema).text)
            ordered = {name: value.get(name) for name in schema["properties"]}
            text = json.dumps(ordered, separators=(",", ":"))
            self.tokens = vlm.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
            return say(messages, schema)

        vlm.chat = chat

    def next_token(self, logits: torch.Tensor, allowed: np.ndarray | None, place: int) -> int:
        token = self.tokens[place]
        assert self.vlm._take is not None and allowed is not None and allowed[token]
        self.vlm._take.choices.append((place, token, np.packbits(allowed)))
        return token


@pytest.mark.parametrize("conversation", [True, False])
def test_a_run_in_one_conversation_is_one_row_and_by_single_prompts_a_row_for_each(folder, conversation):
    config = replace(
        SHORT, conversation=conversation, rounds=4, patience=3, max_tokens=400, groups=1, size=2, batch=1, together=1
    )
    vlm = loaded(folder, config)
    Dictated(vlm)
    where = replace(somewhere(), executor=SimulatedExecutor(replace(Rates(), thing=0.6), (4, 4)))
    rollouts = Rollouts(vlm, where, Learning(vlm.model, config), FrozenCopy(vlm.model), 5)
    found = rollouts.run([rollouts._brief(random.Random(8))], [Take(None)])
    (rollout,) = found
    assert rollout.rounds >= 2
    assert len(rollout.rows) == (1 if conversation else rollout.rounds)
    text = vlm.processor.tokenizer.decode([key for row in rollout.rows for key in row.keys if isinstance(key, int)])
    assert text.count('"kind":"') == rollout.rounds


def test_killed_it_goes_on_to_the_same_weights_and_the_same_measures(folder, tmp_path, monkeypatch):
    schedule = replace(SHORT.schedule, steps=4, save_every=2)
    small = replace(SHORT, groups=1, size=2, batch=1, rounds=1, measured=1, schedule=schedule)
    config = written(small, tmp_path / "config.json")
    whole = grpo(tmp_path / "whole", folder, somewhere(), config, seed=4)
    forward, calls = Learning.forward, []

    def killed(self: Learning, batch: Sequence[Rollout]) -> torch.Tensor:
        calls.append(len(batch))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return forward(self, batch)

    monkeypatch.setattr(Learning, "forward", killed)
    with pytest.raises(KeyboardInterrupt):
        grpo(tmp_path / "parts", folder, somewhere(), config, seed=4)
    monkeypatch.setattr(Learning, "forward", forward)
    again = grpo(tmp_path / "parts", folder, after_two_drawings(), config, seed=4)
    one, other = (load_file(each / "model.safetensors") for each in (whole, again))
    before = load_file(folder / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], before[name]) for name in one)
    told = [(each / vlm_grpo.MEASURES).read_text() for each in (tmp_path / "whole", tmp_path / "parts")]
    assert told[0] == told[1] and {"held_edits", "kl", "zero_variance"} <= set("".join(told).replace('"', " ").split())
    assert load_local(Local(str(again), "cpu", "float32")).name == "weights", "a folder like any other"
    with pytest.raises(BadInput, match="other settings"):
        grpo(tmp_path / "parts", folder, somewhere(), None, seed=4)


def after_two_drawings() -> RolloutSetup:
    """The setup with its reward where it stood when the second drawing began."""
    reward = Turning()
    reward.count = 1 + 2  # held-out briefs, rollouts
    return somewhere(reward)


def test_a_lora_leaves_the_weights_and_is_merged_into_a_folder_of_its_own(folder, tmp_path):
    schedule = replace(SHORT.schedule, steps=2)
    config = replace(SHORT, groups=1, size=2, batch=1, rounds=1, lora=Lora(4, 8), measured=0, schedule=schedule)
    out = grpo(tmp_path / "out", folder, somewhere(), written(config, tmp_path / "config.json"), seed=1)
    before, after = load_file(folder / "model.safetensors"), load_file(out / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all("language_model" in name and "proj" in name for name in moved)
    assert (tmp_path / "out" / "lora" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"size": 1}, "at least 2 rollouts"),
        ({"batch": 4}, "must divide the 6 rollouts"),
        ({"temperature": 0.0}, "above 0"),
        ({"together": 0}, "together is 0"),
        ({"schedule": replace(SHORT.schedule, save_every=3)}, "multiples of 2"),
    ],
)
def test_settings_that_cannot_be_used_are_named(wrong, said):
    with pytest.raises(BadInput, match=said):
        replace(SHORT, **wrong)


@needs_art
def test_the_simulated_world_has_briefs_of_its_own_and_pictures_that_a_model_sees(folder):
    hard = 'three green cars, two small red cats in the top row, a pink cow and a sign that says "HELLO" at night'
    where = setup_of("simulated", None, (hard,), errors=0.1)
    vlm, few = loaded(folder), replace(SHORT, groups=1, size=2, batch=2)
    rollouts = Rollouts(vlm, where, Learning(vlm.model, few), FrozenCopy(vlm.model), 1)
    found, seen = rollouts.draw(0)
    assert seen["aligned"] > 0.2 and any(row.prompt.pictures for each in found for row in each.rows)
    own = setup_of("simulated", None, ()).brief(random.Random(3))
    assert draft_goals(where.verifier, Brief(own)).value


def test_models_without_briefs_are_refused():
    with pytest.raises(BadInput, match="--prompts is missing"):
        setup_of("embedded", None, ())


def test_the_command_says_what_is_missing(tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["train", "vlm", "grpo", "--out", str(tmp_path / "out"), "--from", str(empty)]) == 2
    assert "there are no weights in" in capsys.readouterr().err
