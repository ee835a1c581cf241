"""What the words of a question point at, and what a visual token is to say."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from clvr_core.stickers.codes import LOOK, LOOKS, codes
from clvr_core.stickers.grammar import parse
from clvr_core.stickers.scene import BACKDROPS, LETTERS, NATURAL, SIGN, SIZES, Scene, Thing
from clvr_core.training.vlm_batches import Writer
from clvr_core.training.vlm_control import critiques, requests
from clvr_core.training.vlm_feed import Settings
from clvr_core.training.vlm_model import FOLDER
from clvr_core.training.vlm_packing import Packed
from clvr_core.training.vlm_pictures import random_codes
from clvr_core.training.vlm_pointing import ALL, PLACES, SAID, Names, Pointer, pointed, said
from clvr_core.training.vlm_pretrain import Trainer
from clvr_core.training.vlm_questions import Asked, asked
from clvr_core.training.vlm_symbols import FLAT, Symbols, begin_words, forms, plain_cells
from tests.training.small_vlm import small_config
from tests.training.test_vlm import blots

TOKENIZER = FOLDER / "tokenizer.json"
SCENE = Scene(
    (
        Thing("cat", "red", "small", 0),
        Thing("cat", "red", "large", 4),
        Thing("cat", NATURAL, "large", 5),
        Thing("hot dog", NATURAL, "small", 7),
        Thing(SIGN, NATURAL, "large", 8, word="CAB"),
    ),
    "sea",
)
AFTER = SCENE.without([0])


@pytest.fixture(scope="module")
def words() -> Any:
    return Tokenizer.from_file(str(TOKENIZER))


def places(*cells: int) -> int:
    return sum(1 << cell for cell in cells)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"two red cats"', [(" cats", places(0, 4))]),
        ('"a small red cat"', [(" cat", places(0))]),
        ('"a cat left of a hot dog"', [(" cat", places(5)), (" dog", places(7))]),
        ('"a blue cat"', [(" cat", 0)]),
        ('"a cat at the top left"', [(" cat", places(5)), (" left", places(0, 9))]),
        ('"a cat in the bottom row"', [(" cat", places(5)), (" row", places(6, 7, 8, 15, 16, 17))]),
        ('"the scene is at sea"', [(" sea", ALL)]),
        ('"the scene is at night"', [(" night", 0)]),
    ],
)
def test_a_name_points_at_the_places_that_show_it(words, text, expected):
    ids = words.encode(text, add_special_tokens=False).ids
    found = [(words.decode([ids[token]]), shown) for token, shown in Names(words).points(ids, [SCENE])]
    assert found == expected


@pytest.mark.parametrize(
    ("word", "shown"),
    [("CAB", [places(8)] * 4), ("CAT", [places(8), places(8), 0, 0]), ("CA", [places(8), places(8), 0])],
)
def test_a_letter_points_at_signs_that_have_it_there_and_the_end_of_a_word_at_those_that_say_it(words, word, shown):
    text = f'Goal: "a sign that says \\"{word}\\""'
    ids = words.encode(text, add_special_tokens=False).ids
    assert [bits for _, bits in Names(words).points(ids, [SCENE])] == [places(8), *shown]


@pytest.mark.parametrize(
    ("word", "letters"), [("CAB", ["C", "A", "B"]), ("DOVE", ["C", "A", "B"]), ("X", ["C"]), ("", [])]
)
def test_before_each_letter_of_a_word_stands_what_signs_have_there(words, word, letters):
    ids = words.encode(f'Goal: "a sign that says \\"{word}\\" and a cat"', add_special_tokens=False).ids
    found = Names(words).spelled(ids, [SCENE])
    assert [bits for _, bits in found] == [1 << LETTERS.index(letter) for letter in letters]
    if found:
        assert words.decode([ids[found[0][0] + 1]]) == word[0]
    both = [replace(SCENE, things=SCENE.things[:-1]), replace(SCENE, things=(replace(SCENE.things[-1], word="AX"),))]
    assert Names(words).spelled(ids, both[:1]) == []
    assert len(Names(words).spelled(ids, both)) == min(2, len(word))


def test_tokens_know_which_token_of_text_stood_before_them():
    writer = Writer(TOKENIZER)
    batch = writer.batch(asked(random.Random(2), 4, questions=4), requests(random.Random(2), 3), packed=4)
    for rows in batch.packed:
        tokens = np.concatenate([rows.ids.reshape(-1), *(part.ids.reshape(-1) for part in rows.parts)])
        at, before = rows.followed()
        assert len(at) == len(set(at.tolist())) > 0
        assert (tokens[at - 1] == before).all()
        assert not set(tokens[at].tolist()) & {writer.image, writer.pad}
        assert writer.image not in before


def test_of_two_pictures_the_second_has_bits_of_its_own(words):
    ids = words.encode('"remove the red cat"', add_special_tokens=False).ids
    ((_, shown),) = Names(words).points(ids, [SCENE, AFTER])
    assert shown == places(0, 4) | places(4) << PLACES


def test_points_of_packed_questions_stand_where_their_names_do():
    writer = Writer(TOKENIZER)
    question = 'Goal: "a small red cat"'
    made = Asked([SCENE, AFTER], {}, [("size", 0, -1, question, "Yes"), ("edit-done", 0, 1, question, "No")])
    seen, changes = [], []
    for rows in writer.batch(made, packed=2).packed:
        changes += rows.changed.tolist()
        assert (rows.ids.reshape(-1)[rows.compared] == writer.image).all()
        tokens = np.concatenate([rows.ids.reshape(-1), *(part.ids.reshape(-1) for part in rows.parts)])
        seen += zip(
            (writer.words.decode([tokens[at]]) for at in rows.named), rows.shown.tolist(), rows.pictures.tolist()
        )
    assert changes == [1] + [0] * 8, "the cat at the top left is gone"
    assert sorted(seen, key=lambda each: each[2]) == [(" cat", places(0), 1), (" cat", places(0), 2)]


def test_a_pointer_counts_only_the_pictures_that_there_are():
    pointer = Pointer(8)
    hidden, bits = torch.randn(3, 8), torch.tensor([places(2), places(2) | places(1) << PLACES, 0])
    one = pointer(hidden, bits, torch.tensor([1, 1, 1]))
    with torch.no_grad():
        pointer.line.weight[PLACES:] += 5
    same = pointer(hidden, bits, torch.tensor([1, 1, 1]))
    other = pointer(hidden, bits, torch.tensor([1, 2, 1]))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_symbols_are_read_as_what_they_were_made_of(words):
    embedding = torch.empty(words.get_vocab_size(), 192)
    torch.manual_seed(3)
    begin_words(embedding, words)
    symbols = Symbols(192, words, embedding)
    cells, backdrops = (torch.from_numpy(each) for each in random_codes(np.random.default_rng(1), 64))
    _, right = symbols.read(symbols.blurred(cells, backdrops), cells, backdrops)
    assert right.min() > 0.9, "of 192 numbers nine vectors disturb each other a little"
    _, wrong = symbols.read(symbols(cells.flip(0), backdrops), cells, backdrops)
    assert wrong[0] < 0.2 and wrong[3] > 0.9


def test_forms_of_a_word_begin_close_together_and_others_do_not(words):
    embedding = torch.empty(words.get_vocab_size(), 192)
    begin_words(embedding, words)
    cats = next(group for group in forms(words) if words.decode(group[:1]) == " cat")
    dog = words.encode(" dog").ids[0]
    one, other = torch.cosine_similarity(embedding[cats[0]], embedding[[cats[1], dog]])
    assert one > 0.8 and abs(other) < 0.35


def test_a_plain_picture_has_the_look_of_its_color():
    cells, _ = codes([Scene(), SCENE])
    red = next(color for color, name in FLAT.items() if name == "red")
    before = cells[1].copy()
    plain_cells(cells, {0: red})
    symbols = Symbols(16)
    said = symbols(torch.from_numpy(cells), torch.zeros(2, dtype=torch.long))
    table: Any = symbols.look
    assert (cells[1] == before).all() and (cells[0, :, LOOK] == 1).all()
    assert torch.allclose(said[0], symbols.noun[0] + symbols.place + symbols.backdrop[0] + table[1])  # pyright: ignore[reportIndexIssue]


def test_the_text_part_learns_without_a_picture_and_two_runs_of_one_seed_fit_together(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    writer = Writer(TOKENIZER)
    batch = writer.batch(asked(random.Random(2), 4, questions=4, kinds=1), packed=2)

    def none(*_: Any) -> Any:
        raise AssertionError("a picture was drawn")

    torch.manual_seed(1)
    text = Trainer(Settings(rate=4e-3, muon=1e-2), tmp_path / "text", torch.device("cpu"), none, small_config())
    text.symbolic = True
    vision = Trainer(Settings(), tmp_path / "vision", torch.device("cpu"), blots, small_config())
    for field in Symbols.fields:
        assert torch.equal(getattr(text.marks.symbols, field), getattr(vision.marks.symbols, field))
    losses = []
    for _ in range(24):
        loss, parts = text.losses(batch)
        losses.append(parts.tolist())
        text.step(loss, 1)
    assert losses[-1][4] < losses[0][4] / 2 and losses[-1][1] < losses[0][1] / 2
    assert losses[-1][5] < losses[0][5] / 2, "which token stood before"
    assert losses[0][3] == 0 and len(BACKDROPS) == len(vision.marks.symbols.backdrop)
    assert any(isinstance(rows, Packed) and len(rows.named) for rows in batch.packed)


def test_a_name_in_an_instruction_recalls_what_the_brief_says_of_it(words):
    brief = parse("a photo of two small red cats in the top row and a dog at the middle center")
    ids = words.encode("add a blue cat at the top left and remove the dog and the cow", add_special_tokens=False).ids
    cats, dog, cow = Names(words).recalled(ids, brief)
    assert [words.decode([ids[at]]) for at, _ in (cats, dog, cow)] == [" cat", " dog", " cow"]
    fields = PLACES, PLACES + len(LOOKS), PLACES + len(LOOKS) + len(SIZES)
    looks = {color: 1 << (fields[0] + LOOKS.index(color)) for color in ("red", NATURAL)}
    small, large = (1 << (fields[1] + SIZES.index(size)) for size in ("small", "large"))
    number = {count: 1 << (fields[2] + count) for count in (1, 2)}
    assert cats[1] == places(0, 1, 2) | looks["red"] | small | number[2]
    assert dog[1] == places(4) | looks[NATURAL] | small | large | number[1]
    assert cow[1] == 0 and max(cats[1], dog[1]) < 1 << SAID


def test_the_names_of_critiques_stand_in_their_instructions():
    writer, made = Writer(TOKENIZER), critiques(random.Random(4), 6)
    packed = writer.batch(asked(random.Random(2), 1, questions=1), packed=1, critiques=made).packed
    found = []
    for rows in packed:
        for at, bits in zip(rows.recalls, rows.asked.tolist()):
            row, place = divmod(int(at), rows.ids.shape[1])
            before = writer.words.decode(rows.ids[row, : place + 1].tolist(), skip_special_tokens=False)
            assert "<instruction>" in before and "</instruction>" not in before
            found.append((before, bits))
    assert len(found) >= 6 and any(bits == 0 for _, bits in found)
    for each in made:
        nouns = {item.noun: said(each.brief, item.noun) for item in each.brief.items}
        brief = each.question.split("<instruction>")[0]
        mine = [(text, bits) for text, bits in found if brief in text and f"\n{each.instruction[:12]}" in text]
        for text, bits in mine:
            for noun, expected in nouns.items():
                if text.endswith(f" {noun}"):
                    assert bits == expected
    asked_for = [rows for rows in packed if len(rows.recalls)]
    pointer = Pointer(8)
    hidden = torch.randn(asked_for[0].ids.size, 8)
    one = pointed(hidden, hidden, asked_for[0], pointer)
    asked_for[0].asked[:] = 0
    assert not torch.equal(one, pointed(hidden, hidden, asked_for[0], pointer))
