"""What a goal says of things, and what boxes say of that."""

import numpy as np
import pytest

from clvr_core.brief import Goal, around
from clvr_core.witness.objects import ObjectWitness, color_names, colors_in
from clvr_core.witness.things import (
    COLORS,
    Count,
    Found,
    Limits,
    Related,
    Thing,
    asked,
    countable,
    finding_of_number,
    finding_on,
    relations,
    singular,
    union_share,
)

LEFT, RIGHT, BELOW = (0.1, 0.1, 0.3, 0.3), (0.6, 0.1, 0.8, 0.3), (0.1, 0.6, 0.3, 0.8)
NO_COLOR = frozenset()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("three red apples", Count(Thing("apple", "red"), 3, 3)),
        ("There are exactly 12 candles.", Count(Thing("candle"), 12, 12)),
        ("a dog", Count(Thing("dog"), 1, None)),
        ("exactly one large blue teddy bear", Count(Thing("teddy bear", "blue"), 1, 1, partial=True)),
        ("one cat on the sofa", Count(Thing("cat"), 1, 1, partial=True)),
        ("no people", Count(Thing("person"), 0, 0)),
        ("there are no cars in the street", Count(Thing("car"), 0, 0, partial=True)),
        ("three cats in the picture", Count(Thing("cat"), 3, 3)),
        ("two dogs are visible", Count(Thing("dog"), 2, 2)),
        ("two grey foxes", Count(Thing("fox", "gray"), 2, 2)),
        ("a cat to the left of a dog", Related(Thing("cat"), "left of", Thing("dog"))),
        ("The blue vase is above the red book.", Related(Thing("vase", "blue"), "above", Thing("book", "red"))),
        ("a bird inside the cage", Related(Thing("bird"), "inside", Thing("cage"))),
        ("the ship is within a bottle", Related(Thing("ship"), "inside", Thing("bottle"))),
        ("two traffic lights", Count(Thing("traffic light"), 2, 2)),
        ("an orange", Count(Thing("orange"), 1, None)),
        ("three green oranges", Count(Thing("orange", "green"), 3, 3)),
        ("five wine glasses", Count(Thing("wine glass"), 5, 5)),
        ("a bird under the bench", Related(Thing("bird"), "below", Thing("bench"))),
    ],
)
def test_plain_statements_are_read(text, what):
    assert asked(Goal("g1", text)) == what


@pytest.mark.parametrize(
    "text",
    [
        "a warm, painterly style",
        "soft light from the left",
        "the dog looks happy",
        "two cups of coffee",
        "a man holding three balloons",
        "a cat or a dog",
        "three apples and two pears",
        'a sign that says "two dogs"',
        "a cat to the left of a cat",
        "a very long red shiny wooden horse carriage",
        "",
    ],
)
def test_of_other_words_nothing_is_said(text):
    assert asked(Goal("g1", text)) is None
    assert asked(Goal("g1", "three apples", "text")) is None


def said(what, *found, colors=NO_COLOR):
    finding = finding_on(what, found, lambda box: colors, Limits())
    return finding and finding.says


APPLE = Thing("apple")


def apples(*scores):
    boxes = [(0.05 + 0.1 * place, 0.1, 0.12 + 0.1 * place, 0.2) for place in range(len(scores))]
    return [Found("apple", score, box) for score, box in zip(scores, boxes)]


def test_counts():
    assert said(Count(APPLE, 3, 3), *apples(0.9, 0.8, 0.7)) == "yes"
    assert said(Count(APPLE, 3, 3), *apples(0.9, 0.8)) == "no"
    assert said(Count(APPLE, 3, 3), *apples(0.9, 0.8, 0.7, 0.6)) == "no"
    assert said(Count(APPLE, 1, None), *apples(0.9, 0.8)) == "yes"
    assert said(Count(APPLE, 1, None)) == "no"
    assert said(Count(APPLE, 0, 0)) == "yes"
    assert said(Count(APPLE, 0, 0), *apples(0.9)) == "no"


def test_scores_between_the_limits_leave_it_open_only_where_they_matter():
    assert said(Count(APPLE, 3, 3), *apples(0.9, 0.8, 0.3)) is None
    assert said(Count(APPLE, 0, 0), *apples(0.3)) is None
    assert said(Count(APPLE, 1, None), *apples(0.9, 0.3)) == "yes"
    assert said(Count(APPLE, 5, 5), *apples(0.9, 0.3)) == "no"
    assert said(Count(APPLE, 3, 3), *apples(0.9, 0.8, 0.1)) == "no"


def test_two_boxes_of_one_thing_count_once():
    one = Found("apple", 0.9, LEFT)
    again = Found("apple", 0.8, (0.11, 0.1, 0.31, 0.3))
    assert said(Count(APPLE, 1, 1), one, again) == "yes"
    assert union_share(LEFT, LEFT) == pytest.approx(1) and union_share(LEFT, RIGHT) == 0


def test_the_colour_of_a_box_counts():
    red = Count(Thing("apple", "red"), 1, None)
    assert said(red, *apples(0.9), colors=frozenset({"red"})) == "yes"
    assert said(red, *apples(0.9), colors=frozenset({"green"})) == "no"


def test_places():
    cat, dog = Thing("cat"), Thing("dog")
    found = Found("cat", 0.9, LEFT), Found("dog", 0.8, RIGHT)
    assert said(Related(cat, "left of", dog), *found) == "yes"
    assert said(Related(cat, "right of", dog), *found) == "no"
    assert said(Related(cat, "above", dog), *found) == "no"
    assert said(Related(cat, "left of", dog), *found, Found("dog", 0.7, BELOW)) is None, "which of the two dogs?"
    assert said(Related(cat, "left of", dog), found[0]) is None
    assert relations(BELOW, LEFT) == {"below"} and relations(LEFT, LEFT) == set()


def test_what_was_counted_is_told_with_its_boxes():
    finding = finding_on(Count(APPLE, 3, 3), apples(0.9, 0.8), lambda box: NO_COLOR, Limits())
    assert finding is not None
    assert (finding.words, finding.strength, len(finding.boxes)) == ('finds 2 "apple"', 0.8, 2)


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("apples", "apple"),
        ("foxes", "fox"),
        ("cherries", "cherry"),
        ("people", "person"),
        ("buses", "bus"),
        ("bus", "bus"),
        ("glass", "glass"),
        ("dishes", "dish"),
        ("tomatoes", "tomato"),
        ("computer mice", "computer mouse"),
        ("wine glasses", "wine glass"),
        ("reading glasses", "reading glasses"),
    ],
)
def test_singulars(plural, one):
    assert singular(plural) == one


@pytest.mark.parametrize(
    ("name", "rgb"),
    [
        ("red", (200, 30, 30)),
        ("orange", (240, 130, 20)),
        ("yellow", (240, 220, 40)),
        ("green", (40, 160, 60)),
        ("blue", (40, 80, 200)),
        ("purple", (120, 40, 160)),
        ("pink", (250, 160, 190)),
        ("brown", (110, 70, 40)),
        ("black", (15, 15, 20)),
        ("white", (250, 250, 248)),
        ("gray", (128, 128, 128)),
    ],
)
def test_plain_colours_have_one_name(name, rgb):
    named = color_names(np.array([rgb], np.uint8))
    assert {each for each, mask in named.items() if mask[0]} == {name} and set(named) == set(COLORS)
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[6:20, 6:20] = rgb
    assert name in colors_in(picture, (0.1, 0.1, 0.3, 0.3))


class Boxes:
    name = "boxes"

    def __init__(self, *found):
        self.found, self.asked = found, []

    def knows(self, thing):
        return thing != "unicorn"

    def find(self, picture, things):
        self.asked.append(tuple(things))
        return [one for one in self.found if one.name in things]


def test_the_witness_asks_once_for_what_all_goals_need():
    finder = Boxes(*apples(0.9, 0.8), Found("dog", 0.9, BELOW))
    goals = Goal("g1", "two apples"), Goal("g2", "a dog"), Goal("g3", "a unicorn"), Goal("g4", "a warm mood")
    found = ObjectWitness(finder).look(np.zeros((32, 32, 3), np.uint8), goals)
    assert {goal: one.says for goal, one in found.items()} == {"g1": "yes", "g2": "yes"}
    assert finder.asked == [("apple", "dog")]
    assert ObjectWitness(finder).look(np.zeros((32, 32, 3), np.uint8), goals[2:]) == {} and len(finder.asked) == 1


def test_a_thousand_boxes_are_no_burden():
    rng = np.random.default_rng(0)
    found = [Found("apple", 0.9, (x, y, x + 0.02, y + 0.02)) for x, y in rng.uniform(0, 0.98, (1000, 2)).tolist()]
    finding = ObjectWitness(Boxes(*found)).look(np.zeros((32, 32, 3), np.uint8), [Goal("g1", "three apples")])["g1"]
    assert finding.says == "no"


@pytest.mark.parametrize(("number", "says"), [(1, "no"), (2, None), (3, None)])
def test_of_a_goal_that_says_more_only_too_few_are_told(number, says):
    """Two cups on the table may have a third on the shelf, and two of any size are not yet two large ones."""
    for what in (asked(Goal("g1", "two apples on the table")), asked(Goal("g1", "two large apples"))):
        found = finding_on(what, apples(*[0.9] * number), lambda box: NO_COLOR, Limits())
        assert (found and found.says) == says
        counted = finding_of_number(what, number)
        assert (counted and counted.says) == says


def test_things_somewhere_are_no_fault_where_there_are_to_be_none_in_one_place():
    what = asked(Goal("g1", "no apples on the table"))
    assert finding_on(what, apples(0.9), lambda box: NO_COLOR, Limits()) is None
    assert countable(Goal("g1", "no apples on the table")) is None and countable(Goal("g1", "no apples")) is not None


def test_what_is_too_many_is_the_place_of_the_fault():
    what = Count(APPLE, 1, 1)
    finding = finding_on(what, apples(0.9, 0.8, 0.7), lambda box: NO_COLOR, Limits())
    assert finding.says == "no" and finding.fault == around(one.box for one in apples(0.9, 0.8, 0.7)[1:])
    assert finding_on(Count(APPLE, 4, 4), apples(0.9), lambda box: NO_COLOR, Limits()).fault is None


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((0.4, 0.4, 0.6, 0.6), True),
        ((0.1, 0.4, 0.35, 0.6), False),
        ((0.3, 0.3, 0.75, 0.75), True),
        ((0.55, 0.4, 0.95, 0.6), False),
        ((0.1, 0.1, 0.9, 0.9), False),
    ],
)
def test_inside_by_centre_share_and_size(box, inside):
    assert ("inside" in relations(box, (0.2, 0.2, 0.8, 0.8))) == inside


def test_a_bird_inside_its_cage():
    what = asked(Goal("g1", "a bird inside the cage"))
    cage = Found("cage", 0.9, (0.2, 0.2, 0.8, 0.8))
    for box, says in (((0.4, 0.4, 0.6, 0.6), "yes"), ((0.0, 0.4, 0.15, 0.6), "no")):
        found = finding_on(what, [cage, Found("bird", 0.9, box)], lambda box: NO_COLOR, Limits())
        assert found.says == says and "inside the cage" in found.words
