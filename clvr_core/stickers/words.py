"""Every word the world's texts are made of."""

from .scene import BACKDROPS, COLORS, COLUMNS, LETTERS, NOUNS, ROWS, SIGN, SIZES

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_IRREGULAR = {
    "bus": "buses",
    "sheep": "sheep",
    "knife": "knives",
    "sandwich": "sandwiches",
    "couch": "couches",
    "computer mouse": "computer mice",
    "toothbrush": "toothbrushes",
    "fish": "fish",
    "cross": "crosses",
    "skis": "skis",
    "scissors": "scissors",
    "broccoli": "broccoli",
    "wine glass": "wine glasses",
}
PLURALS = {noun: _IRREGULAR.get(noun, noun + "s") for noun in (*NOUNS, SIGN)}
OTHER_NAMES = {
    "bike": "bicycle",
    "plane": "airplane",
    "television": "tv",
    "phone": "cell phone",
    "ball": "sports ball",
    "keyboard": "computer keyboard",
    "mouse": "computer mouse",
    "sofa": "couch",
    "plant": "potted plant",
    "mug": "cup",
    "ship": "boat",
    "bag": "handbag",
}
"""Further words for a noun that a brief may use; the executor's text encoder learns them too."""


def _by_rule(name: str) -> str:
    """The plural as GenEval makes it, right or wrong: "knifes", "toothbrushs"."""
    return name + ("es" if name.endswith("s") else "s")


OTHER_PLURALS = {_by_rule(name): noun for name, noun in OTHER_NAMES.items()} | {"mice": "computer mouse"}
SINGULARS = {noun: (noun, *(name for name, meant in OTHER_NAMES.items() if meant == noun)) for noun in (*NOUNS, SIGN)}
"""Noun -> every name of it, the usual one first."""
PLURAL_FORMS = {
    noun: tuple(
        dict.fromkeys((plural, _by_rule(noun), *(name for name, meant in OTHER_PLURALS.items() if meant == noun)))
    )
    for noun, plural in PLURALS.items()
}
"""Noun -> every plural of it, the usual one first."""
SIZE_WORDS = {"small": "small", "tiny": "small", "little": "small", "large": "large", "big": "large"}
SIZE_FORMS = {
    size: (size, *(word for word, meant in SIZE_WORDS.items() if meant == size and word != size)) for size in SIZES
}
"""Size -> every word for it, the usual one first."""
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
BACKDROP_WORDS = {
    "plain": ("on a plain background", "in front of a plain background"),
    "day": ("by day", "under a blue sky", "in the daytime"),
    "night": ("at night", "under the stars", "in the night"),
    "sunset": ("at sunset", "in the sunset"),
    "meadow": ("on a meadow", "in a green meadow"),
    "snow": ("in the snow", "in a snowy place"),
    "sea": ("at sea", "by the sea"),
    "indoors": ("indoors", "in a room"),
}
"""Backdrop -> how a brief names it, the usual words first."""
MARKS = (".", ",", ":", ";", "!", '"')
FILLER = (
    "please draw paint create make show me a an the clean simple clear plain tidy picture image drawing photo of scene canvas with and "
    "on in at to is are there that it its sits sit stands stand placed found shown contains containing together plus also background "
    "where so row column corner cell part exactly nothing else no other be for sticker stickers says saying reads word"
).split()
EDITING = (
    "add put place remove delete erase change recolor move replace from color object by keep everything rest unchanged leave all copy "
    "restore was then same as into set write give own"
).split()
VOCABULARY = tuple(
    dict.fromkeys(
        (
            *MARKS,
            *LETTERS.lower(),
            *COLORS,
            *" ".join(
                name for forms in (SINGULARS, PLURAL_FORMS) for names in forms.values() for name in names
            ).split(),
            *SIZE_WORDS,
            *BACKDROPS,
            *" ".join(words for several in BACKDROP_WORDS.values() for words in several).split(),
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
