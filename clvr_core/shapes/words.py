"""Every word the world's texts are made of."""

from .scene import COLORS, COLUMNS, ROWS, SHAPES

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLURALS = {shape: shape + ("es" if shape == "cross" else "s") for shape in SHAPES}
SIZE_WORDS = {"small": "small", "tiny": "small", "little": "small", "large": "large", "big": "large"}
RELATIONS = ("left of", "right of", "above", "below")
# Longest first: the parser takes the first that fits.
RELATION_WORDS = {
    "to the left of": "left of",
    "to the right of": "right of",
    "on the left of": "left of",
    "on the right of": "right of",
    "left of": "left of",
    "right of": "right of",
    "above": "above",
    "over": "above",
    "below": "below",
    "under": "below",
    "beneath": "below",
}
MARKS = (".", ",", ":", ";", "!")
FILLER = (
    "please draw paint create make show me a an the clean simple clear plain tidy picture image drawing scene canvas of with and on in at "
    "to is are there that it its sits sit stands stand placed found shown contains containing together plus also light background "
    "where so row column corner cell part exactly nothing else no other be for"
).split()
EDITING = (
    "add put place remove delete erase change recolor move replace from color object by keep everything rest unchanged leave all copy "
    "restore was then same as"
).split()
VOCABULARY = tuple(
    dict.fromkeys(
        (
            *MARKS,
            *COLORS,
            *SHAPES,
            *PLURALS.values(),
            *SIZE_WORDS,
            *ROWS,
            *COLUMNS,
            *NUMBERS,
            *"0123456789",
            *" ".join(RELATION_WORDS).split(),
            *FILLER,
            *EDITING,
        )
    )
)
