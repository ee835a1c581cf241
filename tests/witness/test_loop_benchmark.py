"""benchmarks/witness_loop.py: what its judge gets wrong, and that its witnesses keep that from being called met."""

import pytest

from benchmarks import witness_loop as bench
from clvr_core.stickers.grammar import parse
from clvr_core.stickers.misreading import MOST, WEAK
from clvr_core.stickers.perceive import Perception
from clvr_core.stickers.scene import BACKDROPS, NATURAL, SIGN, Scene, Thing
from clvr_core.stickers.simulated import perceive, picture_of


def seen(count, word):
    things = [Thing("cat", NATURAL, "large", cell) for cell in range(count)]
    return Perception((*things, Thing(SIGN, NATURAL, "large", 8, word=word)), BACKDROPS[0])


def statements(prompt):
    return {item.noun: item for item in parse(prompt).items}


def test_the_judge_agrees_too_easily_on_half_of_the_words_and_numbers_and_always_on_the_same_ones():
    agreeable = bench.Agreeable(MOST / WEAK, 0)
    nouns = ["cat", "dog", "car", "bus", "apple", "chair", "clock", "vase", "bird", "train", "boat", "cup"]
    taken = {}
    for noun in nouns:
        wanted = statements(f"five {noun}s")[noun] if noun != "bus" else statements("five buses")["bus"]
        shown = Perception(tuple(Thing(noun, NATURAL, "large", cell) for cell in range(4)), BACKDROPS[0])
        taken[noun] = agreeable.holds(wanted, shown)
        assert agreeable.holds(wanted, shown) == taken[noun]
    assert 2 < sum(taken.values()) < 10
    two = statements("two cats")["cat"]
    assert not agreeable.holds(two, seen(3, "HI")), "below five it counts right"


def test_a_witness_that_errs_does_so_alike_for_the_same_picture():
    scene = Scene((Thing(SIGN, NATURAL, "large", 8, word="BREAD"), Thing("cat", NATURAL, "large", 0)), BACKDROPS[0])
    picture = picture_of(scene)
    assert [line.text for line in bench.Reader(perceive, 0).read(picture)] == ["BREAD"]
    wrong = bench.Reader(perceive, 1).read(picture)
    assert wrong == bench.Reader(perceive, 1).read(picture) and wrong[0].text != "BREAD"
    assert [one.name for one in bench.Finder(perceive, 0).find(picture, ["cat"])] == ["cat", "sign"]
    doubled = bench.Finder(perceive, 1).find(picture, ["cat"])
    assert doubled == bench.Finder(perceive, 1).find(picture, ["cat"])
    assert [one.name for one in doubled] != ["cat", "sign"]


def test_with_both_witnesses_nothing_is_called_met_that_is_not():
    found = bench.loop(8, 0, arms=("without", "text+objects"))
    without, both = found["arms"]["without"], found["arms"]["text+objects"]
    assert without["wrong_met"] > 0 and both["wrong_met"] == 0
    assert both["truly_met"] >= without["truly_met"]
    assert "| text+objects |" in bench.table(found)


def test_an_arm_that_is_not_there_is_refused():
    with pytest.raises(SystemExit, match="there is no arm 'eyes'"):
        bench.witnesses_of("eyes", perceive)
