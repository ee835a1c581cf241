"""Whatever phrases.py writes is read back as it was meant; what a person types is read or refused, never guessed at."""

from __future__ import annotations

import random

import pytest

from clvr_core.errors import BadInput
from clvr_core.stickers.grammar import GRAMMAR, Instruction, NotInGrammar, parse, parse_instruction, read, tokens_of
from clvr_core.stickers.phrases import REGISTERS, describe, goal_words, instruct, restore, whole, write
from clvr_core.stickers.sampling import EDIT_KINDS, grouped_scene, random_edit, random_scene, random_sign, tell
from clvr_core.stickers.scene import BACKDROPS, CELLS, COLORS, NATURAL, NOUNS, SIGN, Edit, Scene, Thing, look
from clvr_core.stickers.spec import ANYWHERE, Item, Place, Relation, Spec
from clvr_core.stickers.words import BACKDROP_WORDS, OTHER_NAMES, OTHER_PLURALS, PLURAL_FORMS
from tests.waiting import counting_calls

RED, BLUE, DOG = Item("cat", "red"), Item("car", "blue"), Item("dog", NATURAL)
LEFT = Relation(RED.key, "left of", BLUE.key)


def same(one: Spec, other: Spec) -> bool:
    """The order of clauses means nothing."""
    items, relations = set(one.items) == set(other.items), set(one.relations) == set(other.relations)
    return items and relations and one.backdrop == other.backdrop


def random_spec(rng: random.Random) -> Spec:
    scene = grouped_scene(rng, rng.randint(1, 8))
    return tell(scene, rng, rng.choice((0.0, 0.5, 1.0)), rng.choice((0.0, 0.5, 1.0)), rng.randint(0, 3))


def sign(word: str | None = None, place: Place = ANYWHERE) -> Item:
    return Item(SIGN, NATURAL, 1, None, place, word)


class TestRoundTrip:
    @pytest.mark.parametrize("register", REGISTERS)
    def test_every_brief_is_read_back(self, register):
        rng = random.Random(register)
        for _ in range(1000):
            spec = random_spec(rng)
            assert same(parse(write(spec, register, rng)), spec)
            assert same(parse(write(spec, register)), spec)

    def test_every_goal_is_read_back(self):
        rng = random.Random(2)
        for _ in range(300):
            spec = random_spec(rng)
            assert all(parse(goal_words(item)).items == (item,) for item in spec.items)
            assert all(parse(goal_words(relation)).relations == (relation,) for relation in spec.relations)

    @pytest.mark.parametrize("register", REGISTERS)
    def test_every_noun_is_read_back_in_every_look_and_number(self, register):
        for noun in NOUNS:
            other = Item("cat" if noun != "cat" else "dog", "orange")
            for color in (NATURAL, *COLORS):
                for count in (1, 2, 7):
                    item = Item(noun, look(noun, color), count)
                    assert same(parse(write(Spec((item, other)), register)), Spec((item, other)))

    def test_a_whole_scene_is_told_truly(self):
        rng = random.Random(3)
        for _ in range(300):
            scene = random_scene(rng, rng.randint(1, 8))
            assert parse(write(whole(scene), "terse")).holds(scene)

    def test_a_thing_is_told_whole(self):
        for thing in (Thing("cat", "orange", "large", 5), Thing(SIGN, NATURAL, "large", 2, word="GO")):
            assert parse(describe(thing)) == Spec(whole(Scene((thing,))).items)


class TestNames:
    @pytest.mark.parametrize("name", OTHER_NAMES)
    def test_other_names_mean_the_same_noun(self, name):
        assert parse(f"a red {name}").items == (Item(OTHER_NAMES[name], look(OTHER_NAMES[name], "red")),)

    @pytest.mark.parametrize(
        ("plural", "noun"),
        [*OTHER_PLURALS.items(), *((name, noun) for noun in NOUNS for name in PLURAL_FORMS[noun])],
    )
    def test_every_plural_is_known(self, plural, noun):
        assert parse(f"three {plural}").items == (Item(noun, NATURAL, 3),)

    @pytest.mark.parametrize(
        ("text", "nouns"),
        [
            ("a hot dog and a dog", ["hot dog", "dog"]),
            ("a teddy bear, a bear", ["teddy bear", "bear"]),
            ("a stop sign and a sign", ["stop sign", "sign"]),
            ("a computer mouse and a computer keyboard", ["computer mouse", "computer keyboard"]),
            ("a wine glass above a traffic light", ["wine glass", "traffic light"]),
        ],
    )
    def test_the_longest_name_is_taken(self, text, nouns):
        assert [item.noun for item in parse(text).items] == nouns

    @pytest.mark.parametrize(
        ("text", "items"),
        [
            ("an orange", [Item("orange", NATURAL)]),
            ("an orange cat", [Item("cat", "orange")]),
            ("an orange left of an orange cat", [Item("orange", NATURAL), Item("cat", "orange")]),
            ("a blue orange", [Item("orange", "blue")]),
            ("three orange oranges", [Item("orange", NATURAL, 3)]),
            ("orange, cat", [Item("orange", NATURAL), Item("cat", NATURAL)]),
            ("an orange orange traffic light", [Item("traffic light", "orange")]),
        ],
    )
    def test_orange_is_a_colour_before_a_noun_and_else_a_thing(self, text, items):
        if text.startswith("an orange orange"):
            with pytest.raises(NotInGrammar, match="'orange'"):
                parse(text)
        else:
            assert parse(text).items == tuple(items)

    def test_the_colour_it_has_anyway_may_be_said(self):
        assert parse("a yellow banana") == parse("a banana") != parse("a green banana")


class TestWhatAPersonTypes:
    @pytest.mark.parametrize(
        ("text", "items"),
        [
            ("a tiny green dog on the right", [Item("dog", "green", 1, "small", Place(column="right"))]),
            ("2 yellow cars", [Item("car", "yellow", 2)]),
            ("A BIG Red Cat!", [Item("cat", "red", 1, "large")]),
            ("  a red\tcat \n\n in   the center ", [Item("cat", "red", 1, None, Place("middle", "center"))]),
            ("a red cat in the middle", [Item("cat", "red", 1, None, Place("middle", "center"))]),
            ("a red cat in the middle column", [Item("cat", "red", 1, None, Place(column="center"))]),
            ("a red cat in the center row", [Item("cat", "red", 1, None, Place(row="middle"))]),
            ("a red cat in the top left corner", [Item("cat", "red", 1, None, Place("top", "left"))]),
            ("a red cat at the top", [Item("cat", "red", 1, None, Place(row="top"))]),
            (
                "there are three little blue cars in the left column",
                [Item("car", "blue", 3, "small", Place(column="left"))],
            ),
            ("draw me a red cat and a blue car, please", [RED, BLUE]),
            ("one red cat, one blue car", [RED, BLUE]),
            ("red cat; blue car", [RED, BLUE]),
            ("a picture of exactly eight black tvs and nothing else", [Item("tv", "black", 8)]),
            ("a photo of two toothbrushs", [Item("toothbrush", NATURAL, 2)]),
            ("a photo of a skis", [Item("skis", NATURAL)]),
        ],
    )
    def test_items(self, text, items):
        assert parse(text) == Spec(tuple(items))

    @pytest.mark.parametrize(
        "text",
        [
            "a red cat left of a blue car",
            "a red cat on the left of a blue car",
            "The red cat is to the LEFT of the blue car.",
            "a red cat and a blue car. the red cat is left of the blue car",
            "a blue car and a red cat: the red cat is placed left of the blue car",
            "a red cat and a blue car. the cat is left of the car",
        ],
    )
    def test_relations(self, text):
        assert same(parse(text), Spec((RED, BLUE), (LEFT,)))

    @pytest.mark.parametrize(
        ("word", "kind"), [("over", "above"), ("above", "above"), ("under", "below"), ("beneath", "below")]
    )
    def test_words_for_relations(self, word, kind):
        assert parse(f"a red cat {word} a blue car").relations == (Relation(RED.key, kind, BLUE.key),)

    def test_a_second_relation_after_and_is_of_the_same_thing(self):
        spec = parse("a red cat left of a blue car and above a dog")
        assert spec.relations == (LEFT, Relation(RED.key, "above", DOG.key))

    def test_a_second_relation_without_and_is_of_the_nearer_thing(self):
        spec = parse("a red cat left of a blue car above a dog")
        assert spec.relations == (LEFT, Relation(BLUE.key, "above", DOG.key))

    def test_contradicting_relations_are_read_as_they_stand(self):
        spec = parse("a red cat left of a blue car. the blue car is left of the red cat")
        assert spec.relations == (LEFT, Relation(BLUE.key, "left of", RED.key))

    def test_what_stands_beside_a_thing_is_another_thing(self):
        (relation,) = read("the blue rocket is left of the rocket").relations
        assert relation.a != relation.b and {relation.a[1], relation.b[1]} == {"rocket"}

    def test_the_thing_without_a_colour_is_the_natural_one_where_there_is_one(self):
        spec = parse("a red cat, a cat and a dog. the cat is left of the dog")
        assert spec.relations == (Relation((NATURAL, "cat"), "left of", DOG.key),)


class TestBackdrops:
    @pytest.mark.parametrize(("name", "words"), [(name, words) for name in BACKDROPS for words in BACKDROP_WORDS[name]])
    def test_each_is_read_in_all_its_words_and_anywhere(self, name, words):
        wanted = Spec((RED, BLUE), (LEFT,), name)
        assert same(parse(f"a red cat left of a blue car {words}"), wanted)
        assert same(parse(f"a red cat {words} left of a blue car"), wanted)
        assert same(parse(f"{words}, a red cat, a blue car. the red cat is left of the blue car"), wanted)
        assert read(f"the scene is {words}") == Spec((), (), name)

    def test_stars_above_are_the_night_and_counted_stars_are_things(self):
        assert parse("a cat under the stars") == Spec((Item("cat", NATURAL),), (), "night")
        assert parse("a cat under a star").relations == (Relation((NATURAL, "cat"), "below", (NATURAL, "star")),)

    def test_two_are_refused_and_one_said_twice_is_not(self):
        with pytest.raises(NotInGrammar, match="night and snow"):
            parse("a cat at night in the snow")
        assert parse("a cat at night. the scene is in the night").backdrop == "night"


class TestSigns:
    @pytest.mark.parametrize(
        "text",
        [
            'a sign that says "STOP"',
            'a sign saying "stop"',
            'a sign that reads "Stop"',
            'a large sign with the word "STOP"',
            "a sign that says \u201cSTOP\u201d",
            'a sign "STOP"',
        ],
    )
    def test_a_word_is_in_capitals_however_it_is_typed(self, text):
        assert parse(text).items == (sign("STOP"),)

    def test_the_word_may_stand_before_or_after_the_place(self):
        wanted = sign("GO", Place("top", "left"))
        assert parse('a sign that says "GO" at the top left').items == (wanted,)
        assert parse('a sign at the top left that says "GO"').items == (wanted,)

    def test_a_word_that_is_a_word_of_the_grammar_is_only_letters(self):
        for word in ("CAT", "A", "RED", "NIGHT", "LEFT"):
            assert parse(f'a dog. a sign that says "{word}" at night').items == (DOG, sign(word))

    def test_the_word_may_be_left_open(self):
        assert parse("a sign and a dog. the sign is left of the dog").items == (sign(), DOG)

    def test_a_sign_is_referred_to_without_its_word(self):
        spec = parse('a sign that says "GO" and a dog. the sign is left of the dog')
        assert spec.items == (sign("GO"), DOG) and len(spec.relations) == 1

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('a sign that says "WELCOME"', "'WELCOME'; it holds one word of one to 5 letters"),
            ('a sign that says "NO WAY"', "'NO WAY'; it holds one word"),
            ('a sign that says "A B"', "'A B'"),
            ('a sign that says "A1"', "'A1'"),
            ('a sign that says ""', "one word"),
            ('a cat that says "HI"', "stands on no sign"),
            ('a sign that says "HI', "stands on no sign"),
            ("a sign that says hi", "'hi'"),
            ("a red sign", "a sign is large and has no colour"),
            ("a small sign", "a sign is large and has no colour"),
            ('a sign that says "HI" and a sign that says "GO"', "'sign' is asked for twice"),
        ],
    )
    def test_what_a_sign_cannot_be_is_refused(self, text, said):
        with pytest.raises(NotInGrammar, match=said):
            parse(text)


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("a photo of a bench", "'bench' in the brief is not part of the sticker world"),
            ("a photo of three sinks", "'sinks' in the brief is not part of the sticker world"),
            ("a red cat on a wooden table", "'wooden'"),
            ("a cyan cat", "'cyan'"),
            ("", "no thing"),
            ("a picture at night", "no thing"),
            ("red cats", "'cats' does not say how many"),
            ("12 red cats", "'12'|does not say how many"),
            ("nine red cats", "9 things; the canvas holds at most 8"),
            ("five red cats and four blue cars", "9 things"),
            ("zero red cats", "0 times"),
            ("no red cat and a blue car", "'no red cat'"),
            ("a red cat and a red cat", "'red cat' is asked for twice"),
            ("a yellow banana and a banana", "'banana' is asked for twice"),
            ("a small red cat and a large red cat", "'red cat' is asked for twice"),
            ("two red cats and a red cat at the top left", "'red cat' is asked for twice"),
            ("two red cats left of a blue car", "'red cat', of which there is more than one"),
            ("a red cat left of the red cat", "beside itself"),
            ("a red cat, a blue cat and a dog. the cat is left of the dog", "red cat or blue cat; say its colour"),
            ("three red cats at the top left", "3 things do not fit"),
            ("four red cats in the top row", "4 things do not fit"),
            ("a red cat at the top left and a blue car at the top left", "too few cells"),
            (
                "two red cats in the top row, a blue car in the top row and a dog at the top right",
                "too few cells",
            ),
            ("a red cat in the left row", "'left' in the brief is not understood where it stands"),
            ("a red cat and above it a blue car", "'above'"),
            ("a red cat. it sits left of a blue car", "'left'"),
            ("a red or blue cat", "'or'"),
            ("a large small red cat", "'large'"),
            ("a wine", "'wine' in the brief is not understood where it stands"),
            ("a red cat \U0001f642", "'\U0001f642'"),
        ],
    )
    def test_are_sentences_that_name_the_fault(self, text, said):
        with pytest.raises(NotInGrammar, match=said):
            parse(text)

    def test_show_the_grammar_and_what_takes_a_real_model(self):
        with pytest.raises(BadInput) as error:
            parse("a red cat beside a bench")
        message = str(error.value)
        assert GRAMMAR in message
        assert all(word in message for word in (*COLORS, *NOUNS, "at night", "--models", "Vision Model"))

    @pytest.mark.parametrize(("line", "total"), [(1, 4), (2, 2), (3, 2)])
    def test_the_examples_in_the_grammar_can_be_read(self, line, total):
        assert parse(GRAMMAR.splitlines()[line].strip()).total == total

    def test_items_that_just_fit_are_not_refused(self):
        parse("two red cats in the top row and a blue car at the top right")
        parse("eight red cats")


class TestInstructions:
    @pytest.mark.parametrize("kind", EDIT_KINDS)
    def test_every_edit_is_read_back(self, kind):
        rng = random.Random(kind)
        for _ in range(400):
            scene = random_scene(rng, rng.randint(2, 7)).with_thing(Thing("cat", NATURAL, "small", 0))
            if kind == "word":
                scene = scene.with_thing(random_sign(rng, 1))
            edit = random_edit(rng, scene, kind)
            assert edit.kind == kind
            for words in (instruct(edit, scene), instruct(edit, scene, rng)):
                (found,) = parse_instruction(words)
                assert (found.kind, found.cell, found.to) == (edit.kind, edit.cell, edit.to)
                assert (found.backdrop, found.cells) == (edit.backdrop, edit.cells)
                if kind == "put":
                    new = edit.thing
                    assert (found.noun, found.color, found.word or "") == (new.noun, new.color, new.word)
                    assert found.size in (None, new.size)
                else:
                    assert (found.noun, found.color, found.size) == (None, edit.color, edit.size)
                    assert found.word == edit.word

    def test_without_chance_the_size_of_a_new_thing_is_always_said(self):
        thing = Thing("dog", "pink", "large", 2)
        assert parse_instruction(instruct(Edit("put", 2, thing=thing), Scene())) == (
            Instruction("put", 2, "dog", "pink", "large"),
        )

    @pytest.mark.parametrize("cell", CELLS)
    def test_restore_names_the_cell_and_the_reference(self, cell):
        assert parse_instruction(restore(cell, 3)) == (Instruction("restore", cell, reference=3),)

    @pytest.mark.parametrize("between", [" and ", ", ", " then ", ". "])
    def test_several_in_one_sentence_are_read_in_order(self, between):
        rng = random.Random(between)
        for _ in range(300):
            scene = random_scene(rng, rng.randint(1, 8))
            edits = [random_edit(rng, scene) for _ in range(rng.randint(2, 4))]
            found = parse_instruction(
                between.join(instruct(edit, scene, rng) for edit in edits) + ". keep everything else"
            )
            assert [(each.kind, each.cell) for each in found] == [(edit.kind, edit.cell) for edit in edits]

    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("add an orange at the top left", Instruction("put", 0, "orange", NATURAL)),
            ("add an orange orange at the top left", Instruction("put", 0, "orange", NATURAL)),
            ("make the orange at the top left orange", Instruction("recolor", 0, color="orange")),
            ("replace the hot dog at the top left with a big bike", Instruction("put", 0, "bicycle", NATURAL, "large")),
            ("change the car at the top left to a carrot", Instruction("put", 0, "carrot", NATURAL)),
            ('ADD a sign that says "go" at the Top Left', Instruction("put", 0, SIGN, NATURAL, word="GO")),
            ("write \u201cgo\u201d on the sign at the top left", Instruction("word", 0, word="GO")),
            ("change the scene to snow", Instruction("backdrop", None, backdrop="snow")),
            ("give the tree at the top left its own color", Instruction("recolor", 0, color=NATURAL)),
        ],
    )
    def test_what_a_person_types(self, text, wanted):
        assert parse_instruction(text) == (wanted,)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "make it nicer",
            "remove the red cat",
            "add a bench at the top left",
            "move the object at the top left",
            'write "TOOLONG" on the sign at the top left',
            "change the scene to space",
        ],
    )
    def test_what_is_not_understood_changes_nothing(self, text):
        assert parse_instruction(text) == ()


class TestTokens:
    def test_a_quoted_word_is_read_letter_by_letter(self):
        assert tokens_of('a sign that says "Hi".') == ["a", "sign", "that", "says", '"', "h", "i", '"', "."]

    def test_a_quote_that_is_never_closed_quotes_nothing(self):
        assert tokens_of('say "hi there') == ["say", '"', "hi", "there"]

    def test_signs_that_are_no_words_stand_alone(self):
        assert tokens_of("a cat; (two) 3") == ["a", "cat", ";", "(", "two", ")", "3"]


HOSTILE = {
    "one letter": "a" * 20_000,
    "brackets": "(" * 20_000,
    "quotes": '"' * 20_000,
    "a quote and no end": 'a sign that says "' + "a" * 20_000,
    "signs that say nothing": "a sign that " * 1_600,
    "a bomb for nested repeats": "the " * 4_999 + "x",
    "half an instruction": "change the color of the object at the top left to " * 400,
    "half a put": "add a small red cat at the " * 660,
    "half a sign": 'add a sign that says "' * 900,
    "many instructions": "remove the object at the top left " * 588,
    "many items": "red cat " * 2_500,
    "many counts": "1 " * 10_000,
    "many relations": "a red cat left of a blue car and " * 600,
    "many places": "a red cat at the top left " * 769,
    "many backdrops": "in the snow " * 1_600,
    "combining marks": "e\u0301" * 10_000,
    "zero bytes": "\0" * 20_000,
    "every item": ", ".join(f"zero {color} {noun}s in the top row" for color in COLORS for noun in NOUNS[:40]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_answered_by_a_few_calls_a_sign(name):
    with counting_calls() as calls:
        try:
            parse(HOSTILE[name])
        except NotInGrammar as error:
            assert len(str(error)) < 6_000
        parse_instruction(HOSTILE[name])
    assert calls[0] < 10 * len(HOSTILE[name]) + 1_000
