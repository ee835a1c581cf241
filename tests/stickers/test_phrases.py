"""How specs, goals and edits are worded: GenEval's forms to the letter, and nothing that the model has no word for."""

from __future__ import annotations

import random

import pytest

from clvr_core.stickers.grammar import tokens_of
from clvr_core.stickers.phrases import describe, goal_words, instruct, whole, write
from clvr_core.stickers.scene import NATURAL, NOUNS, SIGN, Edit, Scene, Thing
from clvr_core.stickers.spec import AtLeast, Backdrop, Item, Only, Place, Relation, Spec
from clvr_core.stickers.words import (
    BACKDROP_WORDS,
    OTHER_NAMES,
    OTHER_PLURALS,
    PLURAL_FORMS,
    PLURALS,
    SINGULARS,
    VOCABULARY,
)

DOG, TIE = Item("dog", NATURAL), Item("tie", NATURAL)
STOP = Thing(SIGN, NATURAL, "large", 2, word="STOP")


class TestGenEval:
    @pytest.mark.parametrize(
        ("spec", "prompt"),
        [
            (Spec((DOG,)), "a photo of a dog"),
            (Spec((Item("orange", NATURAL),)), "a photo of an orange"),
            (Spec((Item("clock", NATURAL, 3),)), "a photo of three clocks"),
            (Spec((Item("cow", "blue"), Item("car", "green"))), "a photo of a blue cow and a green car"),
            (Spec((DOG, TIE), (Relation(DOG.key, "right of", TIE.key),)), "a photo of a dog right of a tie"),
            (Spec((TIE, DOG), (Relation(DOG.key, "above", TIE.key),)), "a photo of a dog above a tie"),
            (Spec((DOG,), (), "night"), "a photo of a dog at night"),
        ],
    )
    def test_its_forms(self, spec, prompt):
        assert write(spec, "geneval") == prompt

    def test_its_plurals_are_among_those_that_are_written(self):
        assert "toothbrushs" in PLURAL_FORMS["toothbrush"] and "knifes" in PLURAL_FORMS["knife"]
        rng = random.Random(0)
        seen = {write(Spec((Item("knife", NATURAL, 4),)), "geneval", rng) for _ in range(200)}
        assert seen == {"a photo of four knives", "a photo of four knifes"}


def test_no_two_nouns_share_a_name():
    names = [name for forms in (SINGULARS, PLURAL_FORMS) for noun in forms for name in set(forms[noun])]
    singular_plurals = {noun for noun in NOUNS if PLURALS[noun] == noun}
    assert len(names) == len(set(names)) + len(singular_plurals)
    assert not set(OTHER_NAMES) & set(NOUNS) and set(OTHER_PLURALS.values()) <= set(NOUNS)


def test_every_word_of_every_name_and_backdrop_is_in_the_vocabulary():
    told = [name for forms in (SINGULARS, PLURAL_FORMS) for names in forms.values() for name in names]
    told += [words for several in BACKDROP_WORDS.values() for words in several]
    assert {token for words in told for token in tokens_of(words)} <= set(VOCABULARY)
    assert len(VOCABULARY) == len(set(VOCABULARY))


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (Only((DOG, Item("cat", "red", 2))), "nothing but: dog, 2 red cats"),
        (Item("cat", "red", 2, "small", Place("top", "left")), "two small red cats at the top left"),
        (Item(SIGN, NATURAL, 1, None, Place(row="top"), "HI"), 'a sign that says "HI" in the top row'),
        (AtLeast(Item("cat", NATURAL, 3)), "at least three cats"),
        (Backdrop("snow"), "the scene is in the snow"),
        (Relation(DOG.key, "left of", ("blue", "cow")), "the dog is left of the blue cow"),
    ],
)
def test_goals(statement, words):
    assert goal_words(statement) == words


class TestInstructions:
    SCENE = Scene((Thing("cat", "red", "small", 0), STOP))

    @pytest.mark.parametrize(
        ("edit", "words"),
        [
            (Edit("put", 4, thing=Thing("cow", NATURAL, "large", 4)), "add a large cow at the middle center"),
            (
                Edit("put", 0, thing=Thing(SIGN, NATURAL, "large", 0, word="GO")),
                'replace the red cat at the top left with a sign that says "GO"',
            ),
            (Edit("remove", 2), "remove the sign at the top right"),
            (Edit("recolor", 0, color="blue"), "make the red cat at the top left blue"),
            (Edit("recolor", 0, color=NATURAL), "give the red cat at the top left its own color"),
            (Edit("resize", 0, size="large"), "make the red cat at the top left large"),
            (Edit("move", 0, to=8), "move the red cat at the top left to the bottom right"),
            (Edit("word", 2, word="GO"), 'change the word on the sign at the top right to "GO"'),
            (Edit("backdrop", None, backdrop="night"), "change the scene to night"),
        ],
    )
    def test_without_chance(self, edit, words):
        assert instruct(edit, self.SCENE) == words


def test_a_thing_is_described_by_its_kind_and_cell():
    assert describe(Thing("cat", NATURAL, "small", 5)) == "a small cat at the middle right"
    assert describe(STOP) == 'a sign that says "STOP" at the top right'


def test_a_whole_scene_says_what_all_of_a_kind_share():
    cats = (Thing("cat", NATURAL, "small", 0), Thing("cat", NATURAL, "large", 1))
    spec = whole(Scene((*cats, STOP), "sea"))
    assert spec == Spec(
        (Item("cat", NATURAL, 2, None, Place(row="top")), Item(SIGN, NATURAL, 1, None, Place("top", "right"), "STOP")),
        (),
        "sea",
    )
