"""What the base model is taught and measured with: briefs are true of their scenes, and made of words the model knows."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from clvr_core.executor.klein import chat_text
from clvr_core.stickers.grammar import parse, parse_instruction, tokens_of
from clvr_core.stickers.model import TEXT_BUCKETS, build_tokenizer
from clvr_core.stickers.phrases import REGISTERS, instruct
from clvr_core.stickers.proxies import after
from clvr_core.stickers.sampling import (
    EDIT_KINDS,
    REGISTER_ODDS,
    T2I_COUNTS,
    UNTINTED,
    WORDS,
    edit_sample,
    grouped_scene,
    random_brief,
    random_edit,
    random_scene,
    random_sign,
    random_word,
    restore_sample,
    signed_sample,
    t2i_sample,
    tell,
    word_sample,
)
from clvr_core.stickers.scene import (
    BACKDROPS,
    CELLS,
    JITTER,
    LETTERS,
    MOST_LETTERS,
    NATURAL,
    NOUNS,
    PLAIN,
    SIGN,
    Scene,
    Thing,
    apply,
    looks,
)
from clvr_core.stickers.words import VOCABULARY

SAMPLERS = {
    "t2i": t2i_sample,
    "edit": edit_sample,
    "restore": restore_sample,
    "signs": signed_sample,
    "word": word_sample,
}


def near(seen: int, share: float, count: int) -> bool:
    return abs(seen - share * count) < 4 * (count * share * (1 - share)) ** 0.5


def test_every_brief_is_true_of_its_scene():
    rng = random.Random(1)
    for number in range(2000):
        scene, spec, prompt = random_brief(rng, 1 + number % 8)
        assert len(scene.things) == spec.total == 1 + number % 8
        read = parse(prompt)
        assert spec.holds(scene) and read.holds(scene)
        assert set(read.items) == set(spec.items) and set(read.relations) == set(spec.relations)


def test_a_brief_that_names_no_backdrop_means_the_plain_one_and_every_word_is_told():
    rng = random.Random(2)
    told = Counter()
    for _ in range(1500):
        sample = t2i_sample(rng)
        spec = parse(sample.prompt)
        assert sample.target.backdrop == (spec.backdrop or PLAIN)
        assert all(item.word for item in spec.items if item.noun == SIGN)
        told[spec.backdrop] += 1
    assert set(told) == {None, *BACKDROPS} and told[None] > told[PLAIN] > 0


def test_a_spec_states_as_many_places_and_sizes_as_it_is_asked_to():
    rng = random.Random(3)
    for _ in range(300):
        scene = grouped_scene(rng, 4)
        bare, full = tell(scene, rng, 0, 0), tell(scene, rng, 1, 1)
        assert all(item.size is None and item.place.row is item.place.column is None for item in bare.items)
        assert full.holds(scene)
        assert all(item.place.row or item.place.column for item in full.items if item.count == 1)
        assert all(item.size for item in full.items if item.count == 1 and item.noun != SIGN)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_prompt_is_made_of_the_vocabulary(kind):
    rng = random.Random(kind)
    for _ in range(1500):
        assert set(tokens_of(SAMPLERS[kind](rng).prompt)) <= set(VOCABULARY)


def test_every_word_that_is_written_is_taught():
    rng, seen = random.Random(4), Counter()
    for number in range(9000):
        make = (t2i_sample, edit_sample, restore_sample)[number % 3]
        seen.update(tokens_of(make(rng).prompt))
    names = {token for noun in NOUNS for token in noun.split()}
    assert names | set(LETTERS.lower()) <= set(seen) and min(seen[name] for name in names) > 20


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.mark.parametrize("kind", SAMPLERS)
def test_no_prompt_is_longer_than_the_model_reads_and_its_tokens_are_the_grammars(kind, tokenizer):
    rng = random.Random(kind)
    prompts = [SAMPLERS[kind](rng).prompt for _ in range(300)]
    if kind == "t2i":
        prompts += [random_brief(rng, 8)[2] for _ in range(300)]
    for prompt in prompts:
        assert tokenizer.convert_ids_to_tokens(tokenizer(prompt)["input_ids"]) == tokens_of(prompt)
        text = chat_text(tokenizer, prompt)
        ids = tokenizer(text)["input_ids"]
        assert len(ids) <= TEXT_BUCKETS[-1] and tokenizer.unk_token_id not in ids


@pytest.mark.parametrize("kind", SAMPLERS)
def test_the_same_seed_gives_the_same_samples(kind):
    def drawn(seed: int):
        rng = random.Random(seed)
        return [SAMPLERS[kind](rng) for _ in range(50)]

    assert drawn(5) == drawn(5) != drawn(6)


def test_numbers_of_things_looks_and_registers_are_shown_as_often_as_planned():
    rng, count = random.Random(6), 4000
    samples = [t2i_sample(rng) for _ in range(count)]
    seen = Counter(len(sample.target.things) for sample in samples)
    assert set(seen) == set(T2I_COUNTS)
    assert all(near(seen[things], share, count) for things, share in T2I_COUNTS.items())
    photos = sum(sample.prompt.startswith("a photo of") for sample in samples)
    assert near(photos, REGISTER_ODDS[REGISTERS.index("geneval")], count)
    firsts = [sample.target.things[0] for sample in samples if sample.target.things[0].noun != SIGN]
    assert 0.9 * UNTINTED < sum(thing.color == NATURAL for thing in firsts) / len(firsts) < 1.1 * UNTINTED


def test_a_word_has_one_to_five_letters_and_half_of_them_say_something():
    rng, count = random.Random(7), 4000
    words = [random_word(rng) for _ in range(count)]
    assert {len(word) for word in words} == set(range(1, MOST_LETTERS + 1)) and set("".join(words)) == set(LETTERS)
    assert all(1 <= len(word) <= MOST_LETTERS and set(word) <= set(LETTERS) for word in WORDS)
    assert 0.48 < sum(word in WORDS for word in words) / count < 0.6


def test_things_have_looks_that_their_noun_can_have_and_stay_in_their_cells():
    rng = random.Random(8)
    for number in range(900):
        count = number % 10
        for scene in (random_scene(rng, count), grouped_scene(rng, count)):
            assert len(scene.things) == count and scene.backdrop in BACKDROPS
            for thing in scene.things:
                assert thing.color in looks(thing.noun) and thing.cell in CELLS
                assert abs(thing.dx) <= JITTER and abs(thing.dy) <= JITTER
                assert bool(thing.word) == (thing.noun == SIGN)


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_an_edit_falls_back_to_put_only_where_its_kind_cannot_be(kind):
    rng = random.Random(kind)
    for things in range(10):
        scene = random_scene(rng, things)
        edit = random_edit(rng, scene, kind)
        needed = [thing for thing in scene.things if (thing.noun == SIGN) == (kind == "word")]
        possible = kind in ("put", "backdrop") or bool(needed if kind in ("word", "recolor", "resize") else things)
        possible = possible and not (kind == "move" and things == 9)
        assert edit.kind == (kind if possible else "put")
        assert kind != "word" or possible or edit.thing.noun == SIGN


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_an_instruction_leads_from_the_canvas_to_the_target(kind):
    rng = random.Random(kind)
    for _ in range(300):
        before = random_scene(rng, rng.randint(1, 6)).with_thing(Thing("cat", NATURAL, "small", 0))
        before = before.with_thing(random_sign(rng, 1))
        edit = random_edit(rng, before, kind)
        (said,) = parse_instruction(instruct(edit, before))
        assert kinds(after(said, before, [before])) == kinds(apply(edit, before))


def kinds(scene: Scene) -> tuple:
    return scene.backdrop, {thing.cell: thing.kind for thing in scene.things}


def test_an_edit_sample_changes_only_what_its_instruction_names():
    rng, held = random.Random(9), 0
    for _ in range(1500):
        sample = edit_sample(rng)
        before, said = sample.references[0], parse_instruction(sample.prompt)
        changed = {cell for cell in CELLS if before.at(cell) != sample.target.at(cell)}
        named = {cell for each in said for cell in each.cells}
        settings = [each.backdrop for each in said if each.backdrop]
        assert said and changed <= sample.cells == named
        assert sample.target.backdrop == (settings[-1] if settings else before.backdrop)
        held += before == sample.target
    assert 30 < held < 200


def test_a_signed_sample_has_signs_of_one_word_which_its_brief_tells():
    rng, numbers = random.Random(11), Counter()
    for _ in range(600):
        sample = signed_sample(rng)
        signs = [thing for thing in sample.target.things if thing.noun == SIGN]
        (told,) = (item for item in parse(sample.prompt).items if item.noun == SIGN)
        assert {sign.word for sign in signs} == {told.word} and told.count == len(signs)
        assert sample.cells == {sign.cell for sign in signs} and not sample.references
        numbers[len(signs)] += 1
        assert len(sample.target.things) - len(signs) <= 2
    assert numbers[1] > numbers[2] > numbers[3] > 0


def test_a_word_sample_changes_one_sign():
    rng, put = random.Random(12), 0
    for _ in range(600):
        sample = word_sample(rng)
        (before,), (said,) = sample.references, parse_instruction(sample.prompt)
        (cell,) = sample.cells
        there = sample.target.at(cell)
        assert there and there.noun == SIGN and there != before.at(cell)
        assert kinds(after(said, before, [before])) == kinds(sample.target)
        assert before.without([cell]).things == sample.target.without([cell]).things
        put += said.kind == "put"
    assert 150 < put < 450


def test_a_restore_sample_brings_one_cell_back_or_ignores_the_second_canvas():
    rng, restored = random.Random(10), 0
    for _ in range(500):
        sample = restore_sample(rng)
        first, second = sample.references
        changed = {cell for cell in CELLS if first.at(cell) != sample.target.at(cell)}
        assert changed <= sample.cells
        if (told := parse_instruction(sample.prompt))[0].kind == "restore":
            restored += 1
            assert sample.cells == {told[0].cell} and sample.target.at(told[0].cell) == second.at(told[0].cell)
            assert sample.target.backdrop == first.backdrop
    assert 200 < restored < 400
