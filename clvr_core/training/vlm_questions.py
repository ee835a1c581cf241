"""What the embedded vision-language model is taught by: scenes, questions about them in the project's own prompts, and the
true answers.

Everything here is plain Python and numpy, so that worker processes can make it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..brief import Goal
from ..stickers.codes import codes
from ..stickers.phrases import (
    NOTHING_BUT,
    backdrop_words,
    goal_words,
    instruct,
    item_words,
    noun_words,
    relation_words,
    restore,
    write,
)
from ..stickers.scene import (
    BACKDROPS,
    CANVAS,
    CELLS,
    COLORS,
    COLUMNS,
    JITTER,
    LETTERS,
    MOST_LETTERS,
    NATURAL,
    NOUNS,
    ROWS,
    SIGN,
    SIZES,
    Edit,
    Scene,
    Thing,
    apply,
    cell_name,
    looks,
)
from ..stickers.spec import ANYWHERE, AtLeast, Backdrop, Item, Only, Place, Relation, Spec, Statement
from ..stickers.words import NUMBERS, RELATIONS, SIZE_FORMS
from ..trajectory import Action
from ..verifier import prompts
from .vlm_briefs import by_brief

ONE = ("existence", "color", "size", "place", "count", "at least", "relation", "nothing but", "backdrop", "word")
"""Types of questions about one picture."""
MIX = (
    *ONE,
    *("color", "relation", "count", "place", "nothing but") * 2,
    *("relation", "count", "word") * 2,
    *("word",) * 5,
    "size",
)
"""How often each is asked: more often what is hard, or can seldom be asked."""
TWO = ("edit-done", "edit-kept")
"""Types of questions about two pictures."""
SIGHT = "sight"
COMPARED = ("compare", "choose")
"""Types of questions about two to four pictures of one brief; vlm_control makes them."""
CRITIQUE = "critique"
"""Whether an instruction contradicts the brief, by their words alone; vlm_control makes it."""
TYPES = (*ONE, *TWO, SIGHT, *COMPARED, CRITIQUE)
DENSE = ("by place", "by kind", "by brief")
"""Tasks that are answered in words."""
PLACE_TASK = "Say what stands at each place."
FLAT = ((220, 30, 30), (30, 60, 220), (40, 160, 60), (240, 200, 40), (128, 128, 128), (250, 250, 250), (20, 20, 20))
"""Plain pictures for the check that a model sees; the first is red."""
CHECKS = 0.6
"""Share of the goals that are asked as a question as well."""
SIGHT_QUESTION = "Is the picture plain red all over?"

Chance = random.Random


def some_word(rng: Chance) -> str:
    return "".join(rng.choice(LETTERS) for _ in range(rng.randint(1, MOST_LETTERS)))


def some_thing(rng: Chance, cell: int, noun: str | None = None, color: str | None = None) -> Thing:
    """Return a thing for that cell; what is not given is left to chance."""
    noun = noun or (SIGN if rng.random() < 0.05 else rng.choice(NOUNS))
    shift = rng.randint(-JITTER, JITTER), rng.randint(-JITTER, JITTER)
    if noun == SIGN:
        return Thing(SIGN, NATURAL, "large", cell, *shift, some_word(rng))
    if color is None or color not in looks(noun):
        color = NATURAL if rng.random() < 0.35 else rng.choice(looks(noun))
    return Thing(noun, color, rng.choice(SIZES), cell, *shift)


def some_scene(rng: Chance) -> Scene:
    """Return a scene of 0 to 9 things in which nouns, colours and whole kinds come again."""
    total = rng.choices(range(10), (1, 4, 5, 6, 6, 5, 4, 3, 2, 1))[0]
    cells = rng.sample(CELLS, total)
    things: list[Thing] = []
    if cells and rng.random() < 0.45:
        things.append(some_thing(rng, cells.pop(), SIGN))
    while cells:
        close = [thing for thing in things if thing.noun != SIGN]
        kin = rng.choice(close) if close and rng.random() < 0.5 else None
        share = rng.random() < 0.5
        noun = kin.noun if kin and share else rng.choice(NOUNS)
        first = some_thing(rng, cells[0], noun, None if kin is None or share else kin.color)
        count = 1 if rng.random() < 0.55 else rng.randint(2, 7)
        mixed = rng.random() < 0.25
        for cell in cells[:count]:
            other = some_thing(rng, cell, first.noun, first.color)
            things.append(other if mixed else replace(other, size=first.size))
        del cells[:count]
    return Scene(tuple(things), rng.choice(BACKDROPS))


def place_of(cell: int, rng: Chance) -> Place:
    """Return a cell, its row or its column as a place."""
    row, column = ROWS[cell // len(COLUMNS)], COLUMNS[cell % len(COLUMNS)]
    return rng.choice((Place(row, column), Place(row, column), Place(row), Place(None, column)))


def _groups(scene: Scene) -> dict[tuple[str, str], list[Thing]]:
    groups: dict[tuple[str, str], list[Thing]] = {}
    for thing in scene.things:
        groups.setdefault(thing.key, []).append(thing)
    return groups


def _absent(scene: Scene, rng: Chance, color: str | None = None) -> tuple[str, str]:
    nouns = {thing.noun for thing in scene.things}
    noun = rng.choice([noun for noun in NOUNS if noun not in nouns])
    return (color if color in looks(noun) else rng.choice(looks(noun))), noun


def _item(things: Sequence[Thing], **more: object) -> Item:
    first = things[0]
    return Item(first.noun, first.color, len(things), **more)  # pyright: ignore[reportArgumentType]


def _existence(scene: Scene, wanted: bool, rng: Chance) -> Statement | None:
    groups = [things for things in _groups(scene).values() if things[0].noun != SIGN]
    if wanted:
        return _item(rng.choice(groups)) if groups else None
    color, noun = _absent(scene, rng, rng.choice(groups)[0].color if groups and rng.random() < 0.6 else None)
    return Item(noun, color, len(rng.choice(groups)) if groups else 1)


def _color(scene: Scene, wanted: bool, rng: Chance) -> Statement | None:
    groups = [things for things in _groups(scene).values() if things[0].noun != SIGN]
    if not groups:
        return None
    things = rng.choice(groups)
    if wanted:
        return _item(things)
    shown = [thing.color for thing in scene.things if thing.color in looks(things[0].noun)]
    color = rng.choice(shown) if rng.random() < 0.5 else rng.choice(looks(things[0].noun))
    return replace(_item(things), color=color)


def _size(scene: Scene, wanted: bool, rng: Chance) -> Statement | None:
    groups = [things for things in _groups(scene).values() if things[0].noun != SIGN]
    if not groups:
        return None
    things = rng.choice(groups)
    return _item(things, size=rng.choice(things).size if wanted else rng.choice(SIZES))


def _place(scene: Scene, wanted: bool, rng: Chance) -> Statement | None:
    groups = list(_groups(scene).values())
    if not groups:
        return None
    things = rng.choice(groups)
    if wanted:
        return _item(things, place=place_of(rng.choice(things).cell, rng))
    taken = [thing.cell for thing in scene.things]
    return _item(things, place=place_of(rng.choice(taken) if rng.random() < 0.6 else rng.choice(CELLS), rng))


def _some_count(scene: Scene, rng: Chance) -> list[Thing] | None:
    groups = [things for things in _groups(scene).values() if things[0].noun != SIGN]
    many = [things for things in groups if len(things) > 1]
    return rng.choice(many if many and rng.random() < 0.8 else groups) if groups else None


def _count(scene: Scene, wanted: bool, rng: Chance) -> Statement | None:
    things = _some_count(scene, rng)
    if things is None:
        return None
    off = 0 if wanted else rng.choice((-1, 1, -1, 1, -2, 2))
    return replace(_item(things), count=min(8, max(1, len(things) + off)))


def _at_least(scene: Scene, wanted: bool, rng: Chance) -> Statement | None:
    things = _some_count(scene, rng)
    if things is None:
        return None
    size = things[0].size if rng.random() < 0.2 else None
    place = place_of(things[0].cell, rng) if rng.random() < 0.25 else ANYWHERE
    low, high = (1, len(things)) if wanted else (1, len(things) + 2)
    return AtLeast(replace(_item(things), count=min(8, rng.randint(low, high)), size=size, place=place))


def _relation(scene: Scene, wanted: bool, rng: Chance) -> Statement | None:
    single = [key for key, things in _groups(scene).items() if len(things) == 1]
    if len(single) < 2:
        return None
    a, b = rng.sample(single, 2)
    if not wanted and a[1] != SIGN and rng.random() < 0.2:
        a = rng.choice(looks(a[1])), a[1]
    return Relation(a, rng.choice(RELATIONS), b)


def _nothing_but(scene: Scene, wanted: bool, rng: Chance) -> Statement | None:
    items = [_item(things) for things in _groups(scene).values()]
    if not items:
        return None
    rng.shuffle(items)
    if rng.random() < 0.4:
        which = rng.randrange(len(items))
        items[which] = replace(items[which], count=max(1, min(8, items[which].count + rng.choice((-1, 1)))))
    which = rng.randrange(len(items))
    if not wanted and items[which].noun != SIGN and rng.random() < 0.3:
        items[which] = replace(items[which], color=rng.choice(looks(items[which].noun)))
    if not wanted and (len(items) > 1 and rng.random() < 0.7):
        items.pop()
    elif rng.random() < 0.3:
        color, noun = _absent(scene, rng)
        if not wanted and rng.random() < 0.7:
            items[-1] = Item(noun, color)
        else:
            items.append(Item(noun, color))
    return Only(tuple(items))


def _backdrop(scene: Scene, wanted: bool, rng: Chance) -> Statement | None:
    return Backdrop(scene.backdrop if wanted else rng.choice(BACKDROPS))


def _word(scene: Scene, wanted: bool, rng: Chance) -> Statement | None:
    signs = [thing for thing in scene.things if thing.noun == SIGN]
    if len(signs) != 1:
        return None
    word = signs[0].word
    if not wanted:
        at, chance = rng.randrange(len(word)), rng.random()
        if chance < 0.25:
            word = word[:at] + rng.choice(LETTERS) + word[at + 1 :]
        elif chance < 0.35 and len(word) > 1:
            word = word[:at] + word[at + 1 :]
        elif chance < 0.45 and len(word) < MOST_LETTERS:
            word = word[:at] + rng.choice(LETTERS) + word[at:]
        elif chance < 0.5 and len(word) > 1:
            mixed = list(word)
            rng.shuffle(mixed)
            word = "".join(mixed)
        else:
            word = some_word(rng)
    place = place_of(signs[0].cell, rng) if rng.random() < 0.15 else ANYWHERE
    return Item(SIGN, NATURAL, 1, None, place, word)


_PROPOSALS: dict[str, Callable[[Scene, bool, Chance], Statement | None]] = {
    "existence": _existence,
    "color": _color,
    "size": _size,
    "place": _place,
    "count": _count,
    "at least": _at_least,
    "relation": _relation,
    "nothing but": _nothing_but,
    "backdrop": _backdrop,
    "word": _word,
}


def statement_about(scene: Scene, kind: str, wanted: bool, rng: Chance) -> Statement | None:
    """Return a statement of that type which holds in the scene or not, as wanted; None if none was found in 6 tries."""
    for _ in range(6):
        made = _PROPOSALS[kind](scene, wanted, rng)
        if made is None:
            return None
        if made.holds(scene) == wanted:
            return made
    return None


def statement_words(statement: Statement, rng: Chance) -> str:
    """Return the statement as a goal has it: mostly in the world's own words, else in another of its wordings."""
    if rng.random() < 0.6:
        return goal_words(statement)
    if isinstance(statement, Backdrop):
        return f"the scene is {backdrop_words(statement.name, rng)}"
    if isinstance(statement, Relation):
        return relation_words(statement, rng.choice(("terse", "sentence")), rng)
    if isinstance(statement, Item):
        return item_words(statement, rng.choice(("terse", "sentence", "verbose")), rng)
    if isinstance(statement, Only):
        return NOTHING_BUT + write(Spec(statement.items), "terse", rng)
    return goal_words(statement)


def goal_text(words: str, rng: Chance, checks: float = CHECKS) -> str:
    """Return the question about a goal as the verifier asks it, that share of them with the goal as a question as well."""
    chance = rng.random()
    check = f"Does the picture show {words}?" if chance < checks else ""
    wording = prompts.UNQUOTED if chance > 0.92 else prompts.NEWEST
    return prompts.goal_question(Goal("g1", words, "local", check), wording).text


def some_edit(scene: Scene, rng: Chance) -> Edit:
    """Return an edit that changes the scene."""
    things, free = scene.things, scene.free()
    for _ in range(50):
        kind = rng.choice(("put", "put", "put", "remove", "recolor", "resize", "move", "word", "backdrop"))
        there = rng.choice(things) if things else None
        if kind == "put":
            cell = rng.choice(free) if free and rng.random() < 0.75 else rng.choice(CELLS)
            edit = Edit("put", cell, some_thing(rng, cell))
        elif kind == "backdrop":
            edit = Edit("backdrop", None, backdrop=rng.choice(BACKDROPS))
        elif there is None:
            continue
        elif kind == "remove":
            edit = Edit("remove", there.cell)
        elif kind == "word" and there.noun == SIGN:
            edit = Edit("word", there.cell, word=some_word(rng))
        elif kind == "move" and free:
            to = rng.choice(free)
            edit = Edit("move", there.cell, some_thing(rng, to), to=to)
        elif kind == "recolor" and there.noun != SIGN:
            edit = Edit("recolor", there.cell, color=rng.choice(looks(there.noun)))
        elif kind == "resize" and there.noun != SIGN:
            edit = Edit("resize", there.cell, size=rng.choice(SIZES))
        else:
            continue
        if not same(apply(edit, scene), scene):
            return edit
    cell = rng.choice(CELLS)
    return Edit(
        "put", cell, some_thing(rng, cell, "cat" if (old := scene.at(cell)) is None or old.noun != "cat" else "dog")
    )


def same(one: Scene, other: Scene, but: frozenset[int] = frozenset()) -> bool:
    """Whether the scenes hold the same, offsets and those cells aside."""
    return one.backdrop == other.backdrop and all(
        _kind(one, cell) == _kind(other, cell) for cell in CELLS if cell not in but
    )


def _kind(scene: Scene, cell: int) -> tuple[str, ...] | None:
    return None if (thing := scene.at(cell)) is None else thing.kind


def after_all(edits: Sequence[Edit], scene: Scene) -> Scene:
    for edit in edits:
        scene = apply(edit, scene)
    return scene


def cells_of(edits: Sequence[Edit]) -> frozenset[int]:
    return frozenset().union(*(edit.cells for edit in edits))


def done(edits: Sequence[Edit], words: Sequence[str], before: Scene, after: Scene) -> bool:
    """Whether the second scene shows what the edits of the first ask for in those words. A size that the words leave open
    is free."""
    wanted = after_all(edits, before)
    for edit, said in zip(edits, words):
        if edit.kind == "backdrop" and after.backdrop != wanted.backdrop:
            return False
        for cell in edit.cells:
            one, other = _kind(wanted, cell), _kind(after, cell)
            free = edit.kind == "put" and one is not None and one[0] != SIGN and not _says_size(said, one[2])
            if one != other and not (free and one and other and (*one[:2], one[3]) == (*other[:2], other[3])):
                return False
    return True


def _says_size(words: str, size: str) -> bool:
    return any(form in words.split() for form in SIZE_FORMS[size])


def kept(edits: Sequence[Edit], before: Scene, after: Scene) -> bool:
    """Whether the second scene is the first in all that the edits do not name."""
    free = any(edit.kind == "backdrop" for edit in edits)
    return same(replace(before, backdrop=after.backdrop) if free else before, after, cells_of(edits))


def outcome(edits: Sequence[Edit], before: Scene, rng: Chance) -> Scene:
    """Return what a drawing of the edits may show: mostly what is asked for, or less, or something else, or more."""
    chance, after = rng.random(), after_all(edits, before)
    if chance < 0.25:
        which = rng.randrange(len(edits))
        near = [_near(edit, before, rng) if at == which else edit for at, edit in enumerate(edits)]
        if len(cells_of(near)) == sum(len(edit.cells) for edit in near):
            after = after_all([edit for edit in near if edit.kind != "move" or before.at(edit.to or 0) is None], before)
    elif chance < 0.32:
        after = after_all(edits[1:], before)
    elif chance < 0.55 and (wrong := _elsewhere(after, edits, rng)):
        after = apply(wrong, after)
    if rng.random() < 0.06 and (wrong := _elsewhere(after, edits, rng)):
        after = apply(wrong, after)
    return after


def _near(edit: Edit, before: Scene, rng: Chance) -> Edit:
    """Return the edit with one thing wrong."""
    if edit.kind == "put" and edit.thing is not None:
        thing, which = edit.thing, rng.random()
        if thing.noun == SIGN:
            return replace(edit, thing=replace(thing, word=some_word(rng)))
        if which < 0.3:
            return replace(edit, thing=replace(some_thing(rng, thing.cell, thing.noun), size=thing.size))
        if which < 0.5:
            return replace(
                edit, thing=replace(some_thing(rng, thing.cell, rng.choice(NOUNS), thing.color), size=thing.size)
            )
        if which < 0.7:
            return replace(edit, thing=replace(thing, size=rng.choice(SIZES)))
        cell = rng.choice(CELLS)
        return replace(edit, cell=cell, thing=replace(thing, cell=cell))
    if edit.kind == "recolor" and edit.cell is not None and (there := before.at(edit.cell)) and rng.random() < 0.7:
        return replace(edit, color=rng.choice(looks(there.noun)))
    if edit.kind == "word":
        return replace(edit, word=some_word(rng))
    if edit.kind == "move" and rng.random() < 0.7 and (free := before.free()):
        to = rng.choice(free)
        return replace(edit, to=to, thing=some_thing(rng, to))
    return some_edit(before, rng)


def _elsewhere(scene: Scene, edits: Sequence[Edit], rng: Chance) -> Edit | None:
    """Return a change of something that the edits do not name."""
    for _ in range(8):
        other = some_edit(scene, rng)
        if not other.cells & cells_of(edits) and (other.kind != "backdrop" or all(e.kind != "backdrop" for e in edits)):
            return other
    return None


def flat_picture(color: tuple[int, int, int]) -> np.ndarray:
    """A picture that is plain all over."""
    return np.full((CANVAS, CANVAS, 3), color, np.uint8)


def by_place(scene: Scene, rng: Chance) -> str:
    """Return what stands where, in reading order or any other."""
    cells = list(CELLS)
    if rng.random() < 0.5:
        rng.shuffle(cells)
    said = [f"scene: {scene.backdrop}"]
    for cell in cells:
        thing = scene.at(cell)
        if thing is None:
            said.append(f"{cell_name(cell)}: nothing")
        elif thing.noun == SIGN:
            said.append(f'{cell_name(cell)}: sign "{thing.word}"')
        else:
            said.append(f"{cell_name(cell)}: {noun_words(*thing.key, thing.size)}")
    return "; ".join(said)


def by_kind(scene: Scene, rng: Chance) -> tuple[str, str]:
    """Return a question for the number and the places of one kind, and the answer."""
    groups = _groups(scene)
    if groups and rng.random() < 0.85:
        color, noun = rng.choice(list(groups))
    else:
        color, noun = _absent(scene, rng)
    found = groups.get((color, noun), [])
    where = ", ".join(cell_name(thing.cell) for thing in found)
    answer = f"{NUMBERS[len(found)]}: {where}" if found else NUMBERS[0]
    return f"How many {noun_words(color, noun, count=2)} are there, and where?", answer


@dataclass
class Asked:
    """Pictures, and questions about them.

    scenes: of the pictures. flat: picture -> its colour, where it is plain all over.
    rows: (type, first picture, second picture or -1, question, answer); a decision's answer is Yes or No.
    drawn: picture -> its place among the canvases that weights drew, where it is one of them.
    """

    scenes: list[Scene]
    flat: dict[int, tuple[int, int, int]]
    rows: list[tuple[str, int, int, str, str]]
    drawn: dict[int, int] = field(default_factory=dict)

    @property
    def codes(self) -> tuple[np.ndarray, np.ndarray]:
        return codes(self.scenes)


def asked(
    rng: Chance,
    pictures: int,
    *,
    questions: int = 8,
    pairs: float = 0.45,
    kinds: int = 2,
    briefs: int = 0,
    dense: bool = True,
    types: Sequence[str] = MIX,
    canvas: Callable[[Chance], tuple[int, Scene]] | None = None,
    share: float = 1.0,
    checks: float = CHECKS,
) -> Asked:
    """Return so many pictures with their questions.

    questions: yes/no, for each single picture. pairs: share of the pictures that are a before or an after.
    kinds: questions for one kind, for each single picture. briefs: beside each, to take apart. dense: whether to ask in words at all.
    checks: share of the goals that are asked as a question as well.
    canvas: returns the place of a canvas that weights drew, and what it shows; share: of them among the single pictures.
    """
    made = Asked([], {}, [])
    both = int(pictures * pairs) // 2
    for at in range(pictures - 2 * both):
        if rng.random() < 0.01:
            made.scenes.append(Scene())
            made.flat[at] = color = FLAT[0] if rng.random() < 0.5 else rng.choice(FLAT)
            made.rows += [(SIGHT, at, -1, SIGHT_QUESTION, "Yes" if color == FLAT[0] else "No")] * 4
            continue
        if canvas is not None and rng.random() < share:
            made.drawn[at], scene = canvas(rng)
        else:
            scene = some_scene(rng)
        made.scenes.append(scene)
        if rng.random() < 0.03:
            made.rows.append((SIGHT, at, -1, SIGHT_QUESTION, "No"))
        for _ in range(questions):
            kind, wanted = rng.choice(types), rng.random() < 0.5
            if statement := statement_about(scene, kind, wanted, rng):
                text = goal_text(statement_words(statement, rng), rng, checks)
                made.rows.append((kind, at, -1, text, "Yes" if wanted else "No"))
        if dense:
            made.rows.append(("by place", at, -1, PLACE_TASK, by_place(scene, rng)))
            made.rows += [("by kind", at, -1, *by_kind(scene, rng)) for _ in range(kinds)]
            made.rows += [("by brief", at, -1, *by_brief(rng)) for _ in range(briefs)]
    for _ in range(both):
        _ask_about_edits(made, rng)
    return made


def _ask_about_edits(made: Asked, rng: Chance) -> None:
    """Add a picture before and one after, and questions about them."""
    at, before = len(made.scenes), some_scene(rng)
    edits = [some_edit(before, rng)]
    if rng.random() < 0.35 and (more := _elsewhere(before, edits, rng)):
        edits.append(more)
    after = outcome(edits, before, rng)
    made.scenes += [before, after]
    if rng.random() < 0.06 and (cell := edits[0].cell) is not None:
        # Nothing of the earlier canvas is shown, so a change there is taken for it.
        changed = _kind(before, cell) != _kind(after, cell) and after.at(cell) is not None
        rest = same(before, after, frozenset({cell}))
        made.rows += _edit_rows(restore(cell), at, changed, rest)
        return
    decoys = [_near(edits[0], before, rng), *edits[1:]], [some_edit(before, rng)]
    for each in (edits, edits, *(decoy for decoy in decoys if rng.random() < 0.5)):
        if len(cells_of(each)) != sum(len(edit.cells) for edit in each) or _stale(each, before):
            continue
        words = [instruct(edit, before, rng if rng.random() < 0.6 else None) for edit in each]
        said = " and ".join(words)
        if rng.random() < 0.15:
            said += ". Keep everything else exactly as it is."
        rows = _edit_rows(said, at, done(each, words, before, after), kept(each, before, after))
        made.rows += rows if each is edits or rng.random() < 0.3 else rows[:1]


def _stale(edits: Sequence[Edit], scene: Scene) -> bool:
    """Whether an edit asks for what is there already, or moves a thing onto another."""
    onto = any(edit.kind == "move" and edit.to is not None and scene.at(edit.to) is not None for edit in edits)
    return onto or any(same(apply(edit, scene), scene) for edit in edits)


def _edit_rows(words: str, at: int, carried_out: bool, rest: bool) -> list[tuple[str, int, int, str, str]]:
    action = Action("EDIT", edit_prompt=words)
    asks = prompts.done_question(action).text, prompts.kept_question(action).text
    answers = ("Yes" if holds else "No" for holds in (carried_out, rest))
    return [(kind, at, at + 1, ask, answer) for kind, ask, answer in zip(TWO, asks, answers)]


def balance(made: Asked) -> dict[str, float]:
    """Return the share of Yes of each type, for a check."""
    total, yes = Counter(row[0] for row in made.rows), Counter(row[0] for row in made.rows if row[4] == "Yes")
    return {kind: round(yes[kind] / total[kind], 3) for kind in TYPES if total[kind]}


__all__ = ["COLORS", "DENSE", "FLAT", "ONE", "SIGHT", "TWO", "TYPES", "Asked", "asked", "balance"]
