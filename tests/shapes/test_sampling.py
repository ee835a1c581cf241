"""What the base model is taught and measured with: briefs are true of their scenes, and made of words the model knows."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from clvr_core.executor.klein import chat_text
from clvr_core.shapes.grammar import parse, parse_instruction
from clvr_core.shapes.model import TEXT_BUCKETS, build_tokenizer
from clvr_core.shapes.sampling import (
    EDIT_KINDS,
    T2I_COUNTS,
    edit_sample,
    grouped_scene,
    random_brief,
    random_edit,
    random_scene,
    restore_sample,
    t2i_sample,
    tell,
)
from clvr_core.shapes.scene import CELLS, JITTER
from clvr_core.shapes.words import VOCABULARY

SAMPLERS = {"t2i": t2i_sample, "edit": edit_sample, "restore": restore_sample}


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_every_brief_is_true_of_its_scene():
    rng = random.Random(1)
    for number in range(3000):
        scene, spec, prompt = random_brief(rng, 1 + number % 8)
        assert len(scene.things) == spec.total == 1 + number % 8
        assert spec.holds(scene.things) and parse(prompt).holds(scene.things)


def test_a_spec_states_as_many_places_and_sizes_as_it_is_asked_to():
    rng = random.Random(2)
    for _ in range(300):
        scene = random_scene(rng, 4)
        assert all(
            item.size is None and item.place.row is item.place.column is None for item in tell(scene, rng, 0, 0).items
        )
        full = tell(scene, rng, 1, 1)
        assert full.holds(scene.things) and all(
            item.place.row or item.place.column for item in full.items if item.count == 1
        )


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_prompt_is_made_of_the_vocabulary(kind):
    rng = random.Random(kind)
    for _ in range(1000):
        words = re.findall(r"[a-z0-9]+|\S", SAMPLERS[kind](rng).prompt)
        assert set(words) <= set(VOCABULARY)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_no_prompt_is_longer_than_the_model_reads_or_unknown_to_it(kind, tokenizer):
    rng = random.Random(kind)
    prompts = [SAMPLERS[kind](rng).prompt for _ in range(300)]
    if kind == "t2i":
        prompts += [random_brief(rng, 8)[2] for _ in range(300)]
    for prompt in prompts:
        text = chat_text(tokenizer, prompt)
        ids = tokenizer(text)["input_ids"]
        assert len(ids) <= TEXT_BUCKETS[-1] and tokenizer.unk_token_id not in ids


@pytest.mark.parametrize("kind", SAMPLERS)
def test_the_same_seed_gives_the_same_samples(kind):
    def drawn(seed: int):
        rng = random.Random(seed)
        return [SAMPLERS[kind](rng) for _ in range(50)]

    assert drawn(5) == drawn(5) != drawn(6)


def test_numbers_of_things_are_shown_as_often_as_planned():
    rng, count = random.Random(3), 4000
    seen = Counter(len(t2i_sample(rng).target.things) for _ in range(count))
    assert set(seen) == set(T2I_COUNTS)
    for things, share in T2I_COUNTS.items():
        assert abs(seen[things] - share * count) < 4 * (count * share * (1 - share)) ** 0.5


def test_scenes_have_the_number_of_things_asked_for_within_their_cells():
    rng = random.Random(4)
    for number in range(900):
        count = number % 10
        for scene in (random_scene(rng, count), grouped_scene(rng, count)):
            assert len(scene.things) == count and {thing.cell for thing in scene.things} <= set(CELLS)
            assert all(abs(offset) <= JITTER for thing in scene.things for offset in (thing.dx, thing.dy))


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_an_edit_falls_back_to_put_only_where_its_kind_cannot_be(kind):
    rng = random.Random(kind)
    for things in range(10):
        edit = random_edit(rng, random_scene(rng, things), kind)
        possible = things > 0 and not (kind == "move" and things == 9)
        assert edit.kind == (kind if possible else "put")


def test_an_edit_sample_changes_only_the_cells_its_instruction_names():
    rng = random.Random(6)
    for _ in range(1000):
        sample = edit_sample(rng)
        before = sample.references[0]
        changed = {cell for cell in CELLS if before.at(cell) != sample.target.at(cell)}
        named = {cell for each in parse_instruction(sample.prompt) for cell in (each.cell, each.to) if cell is not None}
        assert changed <= sample.cells == named


def test_a_restore_sample_brings_one_cell_back_or_ignores_the_second_canvas():
    rng, restored = random.Random(7), 0
    for _ in range(500):
        sample = restore_sample(rng)
        first, second = sample.references
        changed = {cell for cell in CELLS if first.at(cell) != sample.target.at(cell)}
        assert changed <= sample.cells
        if (told := parse_instruction(sample.prompt))[0].kind == "restore":
            restored += 1
            assert sample.cells == {told[0].cell} and sample.target.at(told[0].cell) == second.at(told[0].cell)
    assert 200 < restored < 400
