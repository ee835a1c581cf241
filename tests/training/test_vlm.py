"""What teaches the embedded vision-language model: true answers, rows as the model is asked, and a trainer that learns."""

from __future__ import annotations

import hashlib
import json
import queue
import random
import shutil
from collections import deque
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration

from clvr_core.brief import Brief, Budget
from clvr_core.controller import prompts as control
from clvr_core.errors import BadInput
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.stickers.judge import StickersVlm
from clvr_core.stickers.scene import CANVAS, NATURAL, SIGN, Edit, Scene, Thing, apply
from clvr_core.stickers.simulated import SimulatedExecutor, perceive_rendered, rendered
from clvr_core.training.muon import Muon, MuonAndAdamW, orthogonal
from clvr_core.training.vlm_batches import CHAT, LONG, PICTURE, SHORT, TALK, Writer
from clvr_core.training.vlm_control import request_for_action, request_for_goals, requests
from clvr_core.training.vlm_conversations import FAULTY, blank, conversation_about, conversations
from clvr_core.training.vlm_feed import Feed, Settings
from clvr_core.training.vlm_model import FOLDER, Pass, sentences
from clvr_core.training.vlm_packing import Line, Packed, read
from clvr_core.training.vlm_pictures import worn
from clvr_core.training.vlm_pretrain import Trainer
from clvr_core.training.vlm_questions import (
    COMPARED,
    CRITIQUE,
    ONE,
    TYPES,
    asked,
    balance,
    done,
    kept,
    outcome,
    some_edit,
    some_scene,
    statement_about,
    statement_words,
)
from clvr_core.training.vlm_weights import load_weights, publish
from clvr_core.vlm.decisions import DECIDE, ONE_WORD
from clvr_core.vlm.local import Local, load_local
from clvr_core.vlm.prompt import Prompter, Turn
from tests.training.small_vlm import save_small, small_config

CAT, DOG = Thing("cat", NATURAL, "small", 0), Thing("dog", "blue", "large", 4)
TOKENIZER = FOLDER / "tokenizer.json"


@pytest.fixture(scope="module")
def writer() -> Writer:
    return Writer(TOKENIZER)


@pytest.fixture
def small() -> Any:
    return small_config()


def blots(cells: np.ndarray, backdrops: np.ndarray) -> torch.Tensor:
    """A picture for each scene that needs no art: each field of a cell as a shade of a part of it."""
    shades = torch.from_numpy(np.asarray(cells)).float().view(-1, 3, 3, cells.shape[-1])[..., [0, 1, 2]] / 80
    pictures = shades.permute(0, 3, 1, 2).repeat_interleave(64, 2).repeat_interleave(64, 3)
    return (pictures + torch.from_numpy(np.asarray(backdrops)).float()[:, None, None, None] / 80).clamp(0, 1)


@pytest.mark.parametrize("kind", ONE)
def test_a_statement_holds_exactly_if_it_is_wanted(kind):
    rng, found = random.Random(3), {True: 0, False: 0}
    for _ in range(300):
        scene, wanted = some_scene(rng), rng.random() < 0.5
        if statement := statement_about(scene, kind, wanted, rng):
            assert statement.holds(scene) == wanted
            assert statement_words(statement, rng)
            found[wanted] += 1
    assert min(found.values()) > 15


def test_an_edit_is_done_if_its_cells_are_as_asked_and_kept_if_the_others_are():
    before = Scene((CAT, DOG), "sea")
    edit = Edit("recolor", 0, color="red")
    after = apply(edit, before)
    assert done([edit], ["recolor it"], before, after) and kept([edit], before, after)
    assert not done([edit], ["recolor it"], before, before) and kept([edit], before, before)
    for other in (replace(after, backdrop="snow"), after.without([4]), after.with_thing(replace(DOG, size="small"))):
        assert done([edit], ["recolor it"], before, other) and not kept([edit], before, other)
    assert kept([edit], before, after.with_thing(replace(DOG, dx=2))), "an offset is nothing that was asked for"


def test_a_size_that_an_instruction_leaves_open_is_free():
    edit, after = Edit("put", 8, replace(CAT, cell=8)), Scene((replace(CAT, cell=8, size="large"),))
    assert done([edit], ["add a cat at the bottom right"], Scene(), after)
    assert not done([edit], ["add a tiny cat at the bottom right"], Scene(), after)


def test_edits_of_one_instruction_are_done_together():
    edits = [Edit("remove", 0), Edit("backdrop", None, backdrop="night")]
    before = Scene((CAT, DOG), "sea")
    whole = Scene((DOG,), "night")
    assert done(edits, ["", ""], before, whole) and kept(edits, before, whole)
    assert not done(edits, ["", ""], before, Scene((DOG,), "sea"))
    assert not done(edits, ["", ""], before, Scene((CAT, DOG), "night"))


def test_what_is_drawn_of_an_edit_is_now_right_and_now_wrong():
    rng, found = random.Random(0), set()
    for _ in range(200):
        before = some_scene(rng)
        edit = some_edit(before, rng)
        after = outcome([edit], before, rng)
        found.add((done([edit], [""], before, after), kept([edit], before, after)))
    assert len(found) == 4


def test_yes_and_no_are_about_as_frequent_in_every_type():
    shares = balance(asked(random.Random(1), 1500))
    assert set(shares) == set(TYPES) - {*COMPARED, CRITIQUE}
    assert all(0.38 <= share <= 0.62 for kind, share in shares.items() if kind != "sight")


def test_a_row_is_the_prompt_that_the_model_is_given(writer, tmp_path, small):
    """Tokens, positions and places of the pictures are those of vlm/prompt.py."""
    model = Qwen3VLForConditionalGeneration(small)
    model.save_pretrained(tmp_path)
    for file in FOLDER.iterdir():
        if (
            file.is_file()
            and file.suffix != ".safetensors"
            and file.name not in ("config.json", "model.safetensors.index.json")
        ):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    vlm = load_local(Local(str(tmp_path), "cpu", "float32"))
    prompter, image = Prompter(vlm.model, vlm.processor), vlm._image(np.zeros((CANVAS, CANVAS, 3), np.uint8))
    made = asked(random.Random(4), 12, pairs=0.5)
    batch = writer.batch(made, requests(random.Random(2), 6))
    rows = iter(zip(batch.short.ids, batch.short.positions))
    compared = 0
    for kind, _, two, question, _ in made.rows:
        if kind in TYPES:
            pictures = (image,) * (1 + (two >= 0))
            prompt = prompter.prompt([Turn("system", (DECIDE,)), Turn("user", (*pictures, f"{question}\n{ONE_WORD}"))])
            if len(prompt) > SHORT:
                continue
            ids, positions = next(rows)
            assert ids[: len(prompt)].tolist() == prompt.ids[0].tolist()
            assert positions[:, : len(prompt)].tolist() == prompt.positions[:, 0].tolist()
            compared += 1
    assert compared > 20


class Asked(StickersVlm):
    """The exact controller as a run has it, and what it is asked for an action with."""

    def __init__(self) -> None:
        super().__init__(read=perceive_rendered)
        self.asked: list[Any] = []

    def chat(self, messages: Any, schema: Any) -> Any:
        if messages[-1].data["task"] == "action":
            self.asked.append(messages)
        return super().chat(messages, schema)


@pytest.mark.parametrize("strategy", ["clvr", "director"])
def test_a_conversation_is_taught_with_the_tokens_that_the_controller_is_asked_with_in_a_run(
    writer, tmp_path, strategy
):
    """Against the prompts of a run of the loop in one conversation, built by vlm/prompt.py."""
    vlm = load_local(Local(str(save_small(tmp_path / "small")), "cpu", "float32", image_side=CANVAS))
    prompt = "three green cars, two small red cats in the top row, a pink cow above a large banana, a blue dog at night"
    brief = Brief(prompt, strategy, 6, CANVAS, CANVAS, Budget(8, patience=3), final_ab=False, conversation=True)
    controller, judge = Asked(), StickersVlm(0.03, brief.seed, "correlated", read=perceive_rendered)
    executor = SimulatedExecutor(FAULTY, (4, 4), lambda scene: rendered(scene, blank), perceive_rendered)
    end = drive(Session(brief, RunModels(controller, executor, judge=judge)))
    said = [exchange.replied for step in end.steps for exchange in step.exchanges]
    tokens, spans, shown = writer.conversation(conversation_about(brief, FAULTY), 10_000)
    assert len(spans) == len(controller.asked) >= 3 and len(shown) >= 2
    (row,) = [writer._rows([Line(tokens, spans, list(range(len(shown))), -4)], len(tokens), None)]
    image = vlm.model.config.image_token_id
    for messages, (first, end_of_reply) in zip(controller.asked, spans):
        asked_with = vlm._prompter.prompt(vlm._turns(messages))
        assert asked_with.ids[0].tolist() == tokens[:first]
        assert asked_with.positions[:, 0].tolist() == row.positions[0][:, :first].tolist()
        slots = row.slots[0][:first][np.array(tokens[:first]) == image]
        assert slots.tolist() == list(range(9 * len(asked_with.images)))
        reply = vlm.processor.tokenizer.decode(tokens[first:end_of_reply])
        assert reply.endswith("<|im_end|>") and json.loads(reply.removesuffix("<|im_end|>"))["kind"]
    told = ["".join(vlm.processor.tokenizer.decode(tokens[slice(*span)])) for span in spans]
    assert told[: len(said)] == [f"{reply}<|im_end|>" for reply in said], "as the loop writes it into the conversation"
    assert row.at.tolist() == [place - 1 for span in spans for place in range(*span)], "nothing else is learnt"
    assert row.target.tolist() == [tokens[place] for span in spans for place in range(*span)]


def test_a_conversation_that_is_too_long_ends_with_an_action_that_is_not(writer):
    talk = max(conversations(random.Random(5), 12), key=len)
    tokens, spans, shown = writer.conversation(talk, 10_000)
    fewer, some, seen = writer.conversation(talk, spans[-1][1] - 2)
    assert len(spans) > 1 and some == spans[:-1] and fewer == tokens[: some[-1][1]] and len(seen) <= len(shown)
    assert writer.conversation(talk, 10) == ([], [], [])


def test_the_fast_passes_are_the_models_own(writer, small):
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(small).float().eval()
    with torch.no_grad():
        for each in model.parameters():
            each.mul_(3) if each.ndim > 1 else each.add_(torch.randn_like(each) * 0.1)
    talks = conversations(random.Random(1), 2)
    batch = writer.batch(asked(random.Random(5), 4, pairs=0.5), requests(random.Random(1), 3), talks=talks)
    pictures, passes = blots(batch.cells, batch.backdrops), Pass(model)
    from clvr_core.training.vlm_model import patches

    pixels = patches(pictures).view(-1, 3, 1, 32, 32).repeat(1, 1, 2, 1, 1).flatten(1)
    grid = torch.tensor([[1, 6, 6]] * len(pictures))
    with torch.no_grad():
        seen, deep = passes.see(pictures)
        own = model.model.visual(pixels, grid_thw=grid)
        assert torch.allclose(seen.flatten(0, 1), own.pooler_output, atol=1e-4)
        assert torch.allclose(deep[0].flatten(0, 1), own.deepstack_features[0], atol=1e-4)
        for rows in (batch.short, batch.chat, batch.talk):
            ids, slots, positions = (torch.from_numpy(each).long() for each in (rows.ids, rows.slots, rows.positions))
            logits = passes.logits(passes.read(ids, slots, positions, seen, deep))
            row = int((slots >= 0).any(-1).nonzero()[0, 0])
            shown = list(dict.fromkeys((slots[row][slots[row] >= 0] // 9).tolist()))
            per = pixels.view(len(pictures), 36, -1)[shown].flatten(0, 1)
            plain = model(
                input_ids=ids[row : row + 1],
                position_ids=positions[row : row + 1].transpose(0, 1),
                pixel_values=per,
                image_grid_thw=grid[: len(shown)],
                mm_token_type_ids=(ids[row : row + 1] == small.image_token_id).int(),
            ).logits[0]
            assert torch.allclose(logits[row], plain, atol=2e-3)


@pytest.mark.parametrize("compiled", [False, True])
def test_questions_that_share_a_row_have_the_numbers_of_rows_of_their_own(writer, small, compiled):
    if compiled and not shutil.which("g++"):
        pytest.skip("needs g++")
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(small).float().eval()
    made = asked(random.Random(5), 7, pairs=0.5, questions=5)
    more = requests(random.Random(4), 5)
    single, shared = writer.batch(made, more), writer.batch(made, more, packed=3)
    passes = Pass(model)
    with torch.no_grad():
        for each in model.parameters():
            each.mul_(3) if each.ndim > 1 else each.add_(torch.randn_like(each) * 0.1)
        seen, deep = passes.see(blots(single.cells, single.backdrops))
        found: dict[bool, list[tuple[Any, ...]]] = {True: [], False: []}
        for rows in (single.short, single.long, single.chat, *shared.packed):
            if packed := isinstance(rows, Packed):
                hidden, _ = read(passes, rows, seen, deep, compiled)
            else:
                ids, slots, positions = (
                    torch.from_numpy(each).long() for each in (rows.ids, rows.slots, rows.positions)
                )
                hidden = passes.read(ids, slots, positions, seen, deep).flatten(0, 1)
            sizes = hidden[torch.from_numpy(rows.at).long()].norm(dim=-1), passes.logits(hidden)[rows.at].logsumexp(-1)
            found[packed] += zip(rows.kind.tolist(), rows.target.tolist(), *(each.tolist() for each in sizes))
    assert len(found[True]) == len(found[False]) > 60
    for one, other in zip(sorted(found[True]), sorted(found[False])):
        assert one == pytest.approx(other, abs=2e-3)
    assert sum(rows.ids.size for rows in shared.rows) == 0
    assert max(len(rows.ids) for rows in shared.packed) == 3
    assert sum(rows.tokens for rows in shared.packed if not rows.parts) < single.chat.ids.size
    made = asked(random.Random(6), 40)
    single, shared = writer.batch(made), writer.batch(made, packed=40)
    assert sum(rows.tokens for rows in shared.packed) < (single.short.ids.size + single.long.ids.size) / 2


def test_rows_are_padded_and_cut_to_what_is_asked_for(writer):
    talks = conversations(random.Random(6), 3)
    batch = writer.batch(asked(random.Random(6), 10), requests(random.Random(6), 3), (200, 3, 2, 2), talks)
    assert [len(rows.ids) for rows in batch.rows] == [200, 3, 2, 2]
    assert [rows.ids.shape[1] for rows in batch.rows] == [SHORT, LONG, CHAT, TALK]
    for rows in (batch.long, batch.chat, batch.talk):
        ids, at = rows.ids.reshape(-1), rows.at.tolist()
        within = [place for place in range(len(at) - 1) if at[place + 1] == at[place] + 1]
        assert len(within) > 20
        assert all(ids[at[place] + 1] == rows.target[place] for place in within), "an answer is read as it is foretold"


@pytest.mark.parametrize("ask", [request_for_goals, request_for_action])
def test_replies_are_compact_json_that_the_schema_allows_token_by_token(ask):
    llguidance, hf = pytest.importorskip("llguidance"), pytest.importorskip("llguidance.hf")

    from clvr_core.vlm.constrain import _bounded

    words = AutoTokenizer.from_pretrained(FOLDER)
    table, rng = hf.from_tokenizer(words), random.Random(8)
    for made in [found for _ in range(12) if (found := ask(rng))]:
        if made.situation is None:
            schema = control.GOALS_SCHEMA
        else:
            ids = [goal.id for goal in made.goals]
            schema = control.action_schema(("GENERATE", "EDIT", "VALIDATE", "END"), ids, made.situation.canvases)
        grammar = llguidance.LLMatcher.grammar_from_json_schema(
            json.dumps(_bounded(schema)), overrides={"whitespace_flexible": False}
        )
        matcher = llguidance.LLMatcher(table, grammar)
        assert matcher.consume_tokens(words(made.reply, add_special_tokens=False)["input_ids"]), made.reply
        assert matcher.is_accepting()


def test_a_request_shows_the_canvases_that_it_names():
    rng, shown = random.Random(9), 0
    for made in [found for _ in range(30) if (found := request_for_action(rng))]:
        assert made.situation is not None
        scenes = [part for part in made.parts if isinstance(part, Scene)]
        assert scenes == [made.scenes[canvas] for canvas in made.situation.canvases]
        shown += bool(scenes)
    assert shown > 10


def test_steps_are_orthogonal_and_do_not_depend_on_the_company():
    torch.manual_seed(1)
    values = torch.linalg.svdvals(orthogonal(torch.randn(2, 40, 24)))
    assert float(values.min()) > 0.6 and float(values.max()) < 1.3
    one, other = torch.randn(24, 40), torch.randn(24, 40)
    alone, together = one.clone().requires_grad_(), one.clone().requires_grad_()
    beside = other.clone().requires_grad_()
    for parameters in ([alone], [together, beside]):
        optimizer = Muon(parameters, 0.01)
        for each in parameters:
            each.grad = torch.ones_like(each) * 0.1 + torch.eye(24, 40)
        optimizer.step()
    assert torch.allclose(alone, together, atol=1e-6) and not torch.equal(alone, one)
    with pytest.raises(ValueError, match="matrices only"):
        Muon([torch.zeros(3, requires_grad=True)], 0.1)


def test_a_filter_is_stepped_as_the_matrix_of_its_rows():
    torch.manual_seed(1)
    filters, bias = torch.randn(8, 4, 3, 3), torch.randn(8)
    matrix = filters.flatten(1).clone().requires_grad_()
    filters, bias = filters.requires_grad_(), bias.requires_grad_()
    filters.grad, bias.grad = torch.randn_like(filters), torch.ones_like(bias)
    matrix.grad = filters.grad.flatten(1).clone()
    before = bias.detach().clone()
    MuonAndAdamW([filters, bias], 0.1, muon=0.1).step()
    Muon([matrix], 0.01).step()
    assert torch.allclose(filters.flatten(1), matrix, atol=1e-6)
    assert torch.allclose(before - bias, torch.full((8,), 0.1), atol=1e-5)


def test_a_trainer_learns_one_batch_and_goes_on_from_its_files(writer, small, tmp_path):
    trainer = Trainer(Settings(rate=4e-3, muon=1e-2), tmp_path, torch.device("cpu"), blots, small)
    made, talks = asked(random.Random(2), 4, questions=4, kinds=1), conversations(random.Random(3), 1)
    batch = writer.batch(made, requests(random.Random(2), 2), talks=talks)
    losses = []
    for _ in range(32):
        loss, parts = trainer.losses(batch, wear=False)
        losses.append(parts.tolist())
        trainer.step(loss, 1)
    assert all(last < first / 2 for first, last in zip(losses[0][:3], losses[-1][:3])), losses[-1]
    trainer.save()
    again = Trainer(Settings(), tmp_path, torch.device("cpu"), blots, small)
    assert again.before == 32
    told = trainer.judge(batch, writer)
    assert told["conversation"] > 0.5
    old, new = told["loss"], again.judge(batch, writer)["loss"]
    assert abs(old - new) < 0.02 * max(1, old)
    assert all(each.dtype == torch.float32 for each in load_weights(tmp_path).values())
    folder = tmp_path / "published"
    folder.mkdir()
    (tmp_path / "curve.jsonl").write_text("{}\n")
    publish(tmp_path, folder)
    note = tmp_path / "run.json"
    note.write_text(note.read_text().replace('"tokenizer": "', '"tokenizer": "0'))
    with pytest.raises(BadInput, match="another tokenizer"):
        publish(tmp_path, folder)
    small.save_pretrained(folder)
    loaded: Any = Qwen3VLForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    model, info = loaded
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert torch.equal(model.get_input_embeddings().weight, model.lm_head.weight), "one table for both"


class Slow:
    """A queue that is empty at first."""

    def __init__(self, left: int) -> None:
        self.left = left

    def get(self, timeout: float) -> str:
        self.left -= 1
        if self.left >= 0:
            raise queue.Empty
        return "batch"


def test_a_feed_waits_for_workers_that_are_slow_and_not_for_those_that_are_gone():
    feed: Any = Feed.__new__(Feed)
    feed.ready, feed.kept, feed.again = Slow(3), deque(), 0
    feed.workers = [SimpleNamespace(is_alive=lambda: False), SimpleNamespace(is_alive=lambda: True)]
    assert feed() == "batch" and list(feed.kept) == ["batch"] and feed.again == 0
    feed.ready = Slow(1)
    assert feed() == "batch" and feed.again == 1, "an earlier one, once there is one"
    feed.ready, feed.kept, feed.workers = Slow(1), deque(), feed.workers[:1]
    with pytest.raises(RuntimeError, match="ended before their first batch"):
        feed()


def test_a_vision_part_that_is_kept_still_does_not_change(writer, small, tmp_path):
    trainer = Trainer(Settings(worn=0.5), tmp_path, torch.device("cpu"), blots, small)
    batch = writer.batch(asked(random.Random(2), 3, questions=3, kinds=1), packed=2)
    before = {name: each.clone() for name, each in trainer.model.named_parameters()}
    for trainer.still in (True, False):
        trainer.step(trainer.losses(batch)[0], 1)
        same = {name: torch.equal(each, before[name]) for name, each in trainer.model.named_parameters()}
        vision = [kept for name, kept in same.items() if ".visual." in name]
        text = [kept for name, kept in same.items() if ".visual." not in name]
        assert all(vision) if trainer.still else sum(vision) < len(vision) / 2
        assert sum(text) < len(text) / 2


def test_packed_questions_are_learnt_by_heart_and_measured(writer, small, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    trainer = Trainer(Settings(rate=4e-3, muon=1e-2), tmp_path, torch.device("cpu"), blots, small)
    batch = writer.batch(asked(random.Random(2), 4, questions=4, kinds=1), packed=2)
    assert trainer.passes.see(trainer.pictures(batch.cells, batch.backdrops))[0].dtype == torch.float32
    with trainer.autocast():
        assert trainer.passes.see(trainer.pictures(batch.cells, batch.backdrops))[0].dtype == torch.bfloat16
    losses = []
    for _ in range(32):
        loss, parts = trainer.losses(batch, wear=False)
        losses.append(parts.tolist())
        trainer.step(loss, 1)
    assert all(last < first / 2 for first, last in zip(losses[0][:2], losses[-1][:2])), losses[-1]
    told = trainer.judge(batch, writer)
    assert told["words"] > 0.5 and set(told) - {"words", "loss"} <= set(TYPES)
    trainer.save()
    again = Trainer(Settings(), tmp_path, torch.device("cpu"), blots, small)
    old, new = trainer.marks.state_dict(), again.marks.state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_worn_pictures_stay_pictures():
    random.seed(0)
    torch.manual_seed(0)
    plain = torch.rand(6, 3, CANVAS, CANVAS)
    found = worn(plain)
    assert found.shape == plain.shape and float(found.min()) >= 0 and float(found.max()) <= 1
    assert not torch.equal(found, plain)


def test_the_words_of_the_world_are_whole_tokens_and_lettering_is_not(writer):
    assert PICTURE.count("<|image_pad|>") == 9
    assert writer.words.encode("Yes").tokens == ["Yes"] and writer.words.encode("No").tokens == ["No"]
    assert writer.words.encode('says "CROWN"').tokens[-6:] == [*"CROWN", '"']
    assert writer.words.encode(DECIDE).tokens == [DECIDE]
    assert writer.words.encode(f"a {SIGN} above").tokens == ["a", "\u0120sign", "\u0120above"]


def test_the_template_is_that_by_which_trl_knows_qwen3_vl():
    """TRL compares it letter by letter with its own, trl/chat_templates/qwen3_vl.jinja of 1.16."""
    text = (FOLDER / "chat_template.jinja").read_bytes()
    assert hashlib.sha256(text).hexdigest() == "3636d0f0bd6bef02654cdffdc447b79cb2cef8ab02cc75267345946291a489e4"


def test_each_sentence_of_the_prompts_is_one_token(writer):
    several = [sentence for sentence in sentences() if len(writer.words.encode(sentence).ids) > 1]
    assert several == [], "prompts have changed: python -m clvr_core.training.vlm_model, and train the weights again"


def test_a_deeper_model_begins_as_the_shallower_one_whose_weights_it_is_given(small, tmp_path):
    before = Trainer(Settings(), tmp_path / "run", torch.device("cpu"), blots, small)
    before.steps = 1
    before.save()
    deeper = small_config()
    deeper.text_config.num_hidden_layers, deeper.text_config.layer_types = 4, ["full_attention"] * 4
    after = Trainer(Settings(), tmp_path / "run", torch.device("cpu"), blots, deeper)
    before.model.load_state_dict(load_weights(tmp_path / "run"), strict=False)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.allclose(before.model(input_ids=ids).logits, after.model(input_ids=ids).logits, atol=1e-5)
    new = after.model.model.language_model.layers[3]
    assert not new.mlp.down_proj.weight.any() and new.mlp.up_proj.weight.std() > 0.05
