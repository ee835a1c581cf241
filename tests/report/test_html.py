from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from clvr_core.brief import Brief, Budget, Goal
from clvr_core.report import save_png, write_png, write_report
from clvr_core.report.markup import el, shorten
from clvr_core.report.steps import WORDS
from clvr_core.report.style import CSS, DARK, LIGHT
from clvr_core.trajectory import Action, Candidate, Cost, EditCheck, Outcome, Step, Trajectory, Verdict

VOID = {"meta", "img", "br", "link", "hr", "col"}
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\"'><b>&amp;\u202eabc\x00\x1b[31m\ud800"


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def find(self, tag: str, **attributes: str) -> list[Element]:
        return [
            one for one in self.walk() if one.tag == tag and all(one.attributes.get(name) == value for name, value in attributes.items())
        ]

    def walk(self) -> Iterator[Element]:
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child.walk()


class Reader(HTMLParser):
    """Raises AssertionError where a tag is closed that is not the open one."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), (tag, names)
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(path: Path) -> Element:
    reader = Reader()
    reader.feed(path.read_text("utf-8"))
    reader.close()
    assert [element.tag for element in reader.open] == [""]
    return reader.open[0]


GOALS = (
    Goal("g1", "a red circle", "local", "Is there a red circle?", 0.9, (0.0, 0.0, 0.33, 0.33)),
    Goal("g2", "two blue squares", "layout", "", 0.4, None, ("g1",)),
    Goal("g3", "nothing else", "global"),
)


def judged(*states: str) -> tuple[Verdict, ...]:
    return tuple(Verdict(goal.id, state, f"evidence {goal.id}", 0.75) for goal, state in zip(GOALS, states))


def drawn(*canvases: int) -> tuple[Candidate, ...]:
    return tuple(Candidate(canvas, f"canvas-{canvas:04d}.png", 1000 + canvas, "0" * 64, 4) for canvas in canvases)


def run() -> Trajectory:
    """0 draws four; 1 keeps; 2 is rolled back; 3 goes on from 1 and is handed over; 4 ends."""
    cost = Cost({"reason": 2.0, "draw": 61.5}, 500, 3, 16, 4)
    steps = (
        Step(0, Action("GENERATE", "nothing yet", "the scene", goals=("g1",)), None, drawn(0, 1, 2, 3), 2, judged("met", "pending", "met"),
             0.5, accepted=True, reason="best of four", cost=cost),
        Step(1, Action("EDIT", "add a square", "", "add a blue square", (2, 0), ("g2",), (0.5, 0.0, 1.0, 0.5), 0.8), 2, drawn(4), 4,
             judged("met", "unmet", "unsure"), 0.6, EditCheck(True, 0.03, "only there"), True, "kept", cost),
        Step(2, Action("EDIT", "add another", "", "add one more", (4,), ("g2",)), 4, drawn(5), 5, judged("unmet", "error", "unsure"), 0.2,
             EditCheck(False, 0.4), False, "the circle is gone", cost),
        Step(3, Action("EDIT", "again", "", "add one, keep the circle", (4,), ("g2",)), 4, drawn(6), 6, judged("met", "met", "met"), 1.0,
             EditCheck(None, None, "no answer"), True, "all met", cost),
        Step(4, Action("END", "done"), 6, reason="the gate passed"),
    )  # fmt: skip
    return Trajectory(
        Brief("a red circle and two blue squares", "director", 42, budget=Budget(rounds=6, images=20, seconds=300.0), goals=GOALS),
        GOALS,
        {"executor": "shapes", "judge": "exact"},
        (("g1", "g3"), ("g2",)),
        "staged: one shot is unlikely",
        steps,
        6,
        6,
        Outcome("all goals met", 6, True, "beat the one-shot picture"),
        Cost({"goals": 1.0}, 50, 1),
        ("the prompt was shortened",),
    )


def picture(canvas: int, side: int = 8) -> np.ndarray:
    return np.full((side, side, 3), 20 * canvas + 10, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    for canvas in range(7):
        save_png(tmp_path / "run" / f"{canvas}.png", picture(canvas), run(), canvas)
    return tmp_path


def report(folder: Path, trajectory: Trajectory) -> Element:
    write_report(trajectory, lambda canvas: folder / "run" / f"{canvas}.png", folder / "report.html")
    return parse(folder / "report.html")


def test_everything_that_happened_is_on_the_page(folder: Path) -> None:
    page = report(folder, run())
    text = page.text
    for words in [
        *("a red circle and two blue squares", "Brief met", "all goals met", "beat the one-shot picture", "the prompt was shortened"),
        *(goal.text for goal in GOALS),
        *("Is there a red circle?", "staged: one shot is unlikely", "best of four", "the circle is gone", "the scene", "add a blue square"),
        *("only there", "over-edit 40\xa0%", "edit not carried out", "edit not judged", "evidence g2", "75\xa0% sure", "4 min 15 s"),
        *("500 in 3 calls", "seed 1006", "4 NFE", "of 20", "director", "exact", "of 5 min", "3 goals met"),
    ]:
        assert words in text, words
    assert [heading.text for heading in page.find("h3") if heading.text.startswith("Step")] == [f"Step {i}" for i in (0, 1, 2, 3, 4)]
    for canvas in range(7):
        assert page.find("figure", id=f"canvas-{canvas}")
    assert [figure.attributes["id"] for figure in page.find("figure", **{"class": "chosen"})] == ["canvas-2"]


def test_nothing_is_loaded_and_nothing_runs(folder: Path) -> None:
    page = report(folder, run())
    assert not page.find("script") and not page.find("link") and not page.find("iframe")
    for element in page.walk():
        assert not [name for name in element.attributes if name.startswith("on")]
        for name in ("src", "href", "action", "srcset", "poster"):
            assert re.match(r"data:image/(png|jpeg);base64,|#", element.attributes.get(name, "#")), element.attributes
    assert "url(" not in CSS and "@import" not in CSS
    assert "default-src 'none'" in page.find("meta", **{"http-equiv": "Content-Security-Policy"})[0].attributes["content"]


def test_links_inside_the_page_lead_somewhere(folder: Path) -> None:
    page = report(folder, run())
    names = [element.attributes["id"] for element in page.walk() if "id" in element.attributes]
    assert len(set(names)) == len(names)
    for element in page.walk():
        for name in ("href", "aria-labelledby"):
            if name in element.attributes:
                assert element.attributes[name].lstrip("#") in names


def test_a_rolled_back_branch_is_nested_under_the_step_it_started_from(folder: Path) -> None:
    page = report(folder, run())
    line = next(one for one in page.find("ol", **{"class": "line"}))
    items = [child for child in line.children if isinstance(child, Element)]
    own = [next(one.text for one in item.find("h3")) for item in items]
    assert own == ["Start", "Step 0", "Step 1", "Step 3", "Step 4"]
    nested = items[2].find("ol", **{"class": "line"})
    assert len(nested) == 1 and nested[0].attributes["aria-label"] == "Tried from step 1"
    assert [heading.text for heading in nested[0].find("h3")] == ["Step 2"]
    assert "Rolled back" in nested[0].text and "the circle is gone" in nested[0].text
    assert not [one for item in (*items[:2], *items[3:]) for one in item.find("ol")]


def test_the_goals_table_has_a_row_a_goal_and_a_column_a_step(folder: Path) -> None:
    table = report(folder, run()).find("table")[0]
    rows = table.find("tbody")[0].find("tr")
    assert [row.find("th")[0].find("p")[0].text for row in rows] == [goal.text for goal in GOALS]
    cells = [[cell.text for cell in row.find("td")] for row in rows]
    assert cells == [
        ["met", "met", "met", "newly broken", "met", "–not judged"],
        ["met", "pending", "unmet", "judge error", "met", "–not judged"],
        ["met", "met", "unsure", "unsure", "met", "–not judged"],
    ]
    assert [cell.text for cell in table.find("tfoot")[0].find("td")] == ["3 of 3", "2 of 3", "1 of 3", "0 of 3", "3 of 3", "–"]
    for cell in table.find("tbody")[0].find("td"):
        assert cell.find("svg") or "not judged" in cell.text
    assert len({use.attributes["href"] for state in WORDS for use in _chip(table, state)}) == len(WORDS)


def _chip(table: Element, state: str) -> list[Element]:
    return [use for chip in table.find("span", **{"class": f"chip {state}"})[:1] for use in chip.find("use")]


def test_one_can_get_about_without_a_mouse_or_eyes(folder: Path) -> None:
    page = report(folder, run())
    assert page.find("html")[0].attributes["lang"] == "en" and page.find("title")[0].text.startswith("Brief met: a red circle")
    levels = [int(one.tag[1]) for one in page.walk() if re.fullmatch("h[1-6]", one.tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for tag in ("main", "header", "nav", "footer"):
        assert page.find(tag)
    assert page.find("a")[0].text == "Skip to the steps" and page.find("a")[0].attributes["href"] == "#steps"
    region = page.find("div", role="region")[0]
    assert region.attributes["tabindex"] == "0" and region.attributes["aria-label"]
    images = page.find("img")
    assert images and all("alt" in image.attributes and "width" in image.attributes for image in images)
    assert images[0].attributes["alt"] == "The picture handed over: canvas 6. The brief: a red circle and two blue squares"
    assert any(
        image.attributes["alt"] == "Canvas 1, drawn in step 0, not chosen among 4 candidates. Asked for: the scene" for image in images
    )
    for image in images:
        inside_link = [link for link in page.find("a") if image in link.walk()]
        assert image.attributes["alt"] or inside_link[0].text.startswith("canvas")
    for head in page.find("th"):
        assert head.attributes["scope"] in ("row", "col")


def test_words_of_a_model_are_only_words(folder: Path) -> None:
    goals = (Goal(HOSTILE, HOSTILE, "text", HOSTILE, 0.5, None, (HOSTILE,)),)
    step = Step(
        0,
        Action("EDIT", HOSTILE, HOSTILE, HOSTILE, (7,), (HOSTILE, "never made")),
        None,
        (Candidate(0, HOSTILE, 1, HOSTILE), Candidate(9, HOSTILE, 1, HOSTILE)),
        0,
        (Verdict(HOSTILE, "met", HOSTILE), Verdict("unknown", "unmet", HOSTILE)),
        edit=EditCheck(True, 0.5, HOSTILE),
        reason=HOSTILE,
        cost=Cost({HOSTILE: 1.0}),
    )
    trajectory = Trajectory(
        Brief(HOSTILE),
        goals,
        {HOSTILE: HOSTILE},
        ((HOSTILE,),),
        HOSTILE,
        (step,),
        0,
        0,
        Outcome(HOSTILE, 0, False, HOSTILE),
        Cost(),
        (HOSTILE,),
    )
    page = report(folder, trajectory)
    source = (folder / "report.html").read_text("utf-8")
    assert "<script" not in source and "</script" not in source and "<b>" not in source
    assert not {"b", "script"} & {element.tag for element in page.walk()}
    assert not re.search("[\x00-\x08\x0b-\x1f\ud800-\udfff]", source)
    assert page.text.count("</script><script>alert(2)</script>") > 15
    for element in page.walk():
        assert "onerror" not in element.attributes
        if any(isinstance(child, str) and "\u202e" in child for child in element.children):
            assert element.tag in ("bdi", "title") or element.attributes.get("dir") == "auto", element.tag


def test_long_words_are_folded(folder: Path) -> None:
    long = "endless" * 15_000
    step = replace(run().steps[0], reason=long, verdicts=(Verdict("g1", "met", long),))
    page = report(folder, replace(run(), steps=(step,), warnings=(long, "x" * 300_000)))
    folds = [fold for fold in page.find("details") if long in fold.text]
    assert len(folds) == 3
    for fold in folds:
        assert "Show all 105,000 characters" in fold.find("summary")[0].text and len(fold.find("summary")[0].text) < 400
    assert "100,000 more characters stand in the trajectory file" in page.text
    assert all(len(one) < 700 for p in page.find("p") for one in p.children if isinstance(one, str))


def test_a_long_brief_is_a_short_heading_and_the_whole_below(folder: Path) -> None:
    prompt = "one two three " * 100
    page = report(folder, replace(run(), brief=replace(run().brief, prompt=prompt)))
    assert len(page.find("h1")[0].text) <= 140 and page.find("h1")[0].text.endswith("…")
    assert prompt in page.text


def test_a_missing_or_broken_picture_says_so(folder: Path) -> None:
    (folder / "run" / "5.png").unlink()
    (folder / "run" / "6.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    page = report(folder, run())
    assert page.find("figure", id="canvas-5")[0].text.startswith("No picturecanvas-0005.png is not in the run folder")
    assert page.text.count("canvas-0006.png cannot be read as a picture") == 2
    for pictures in ({}, lambda canvas: None):
        write_report(run(), pictures, folder / "none.html")
        assert not parse(folder / "none.html").find("img")


def test_small_pictures_keep_every_pixel_and_large_ones_are_reduced(folder: Path) -> None:
    write_png(folder / "run" / "6.png", np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8), {})
    page = report(folder, run())
    small = page.find("figure", id="canvas-4")[0].find("img")[0].attributes
    assert small["class"] == "pixels" and small["src"].startswith("data:image/png") and small["width"] == str(8 * 48)
    large = page.find("figure", id="canvas-6")[0].find("img")[0].attributes
    assert "class" not in large and large["src"].startswith("data:image/jpeg") and (large["width"], large["height"]) == ("384", "288")


def test_fifty_steps(folder: Path) -> None:
    steps = [run().steps[0]]
    for index in range(1, 50):
        kept = index % 5 != 0
        parent = next(step.chosen for step in reversed(steps) if step.accepted)
        step = replace(run().steps[1], index=index, parent=parent, candidates=drawn(index + 3), chosen=index + 3, accepted=kept)
        steps.append(step)
    page = report(folder, replace(run(), steps=tuple(steps), outcome=None, best=52))
    assert len(page.find("article")) == 50
    assert len(page.find("thead")[0].find("th")) == 52
    assert len(page.find("ol", **{"class": "line"})) == 1 + 9
    assert "Not finished" in page.text and "best so far" in page.text


@pytest.mark.parametrize(
    "trajectory",
    [
        Trajectory(Brief("x")),
        Trajectory(Brief("x"), GOALS, outcome=Outcome("stopped by hand", None, False)),
        Trajectory(Brief("x"), steps=(Step(0, Action("END")),), outcome=Outcome("", 99, True)),
        Trajectory(Brief("x"), steps=(Step(0, Action("EDIT", region=(float("nan"), 0.0, 9.0, -9.0)), 5, cost=Cost({"a": float("inf")})),)),
    ],
    ids=["bare", "no canvas", "unknown canvas", "odd numbers"],
)
def test_a_run_with_little_in_it_is_a_page_too(folder: Path, trajectory: Trajectory) -> None:
    assert report(folder, trajectory).find("h1")[0].text == "x"


def test_the_file_is_whole_or_the_old_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report(folder, run())
    old = (folder / "report.html").read_bytes()

    def broken(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("clvr_core.report.atomic.os.replace", broken)
    with pytest.raises(OSError, match="no space left"):
        write_report(Trajectory(Brief("other")), {}, folder / "report.html")
    assert (folder / "report.html").read_bytes() == old
    assert {file.name for file in folder.iterdir()} == {"run", "report.html"}


def test_dark_and_print_are_provided_for() -> None:
    assert "@media screen and (prefers-color-scheme: dark)" in CSS and "@media print" in CSS
    assert set(_colors(LIGHT)) == set(_colors(DARK))
    assert set(re.findall(r"var\((--[a-z-]+)\)", CSS)) == set(_colors(LIGHT))


STATES = ("met", "unmet", "broken", "pending", "unsure", "error")
TEXT = [(ink, ground) for ink in ("--ink", "--soft", "--accent") for ground in ("--page", "--card", "--sunk")]
TEXT += [(f"--{state}-ink", f"--{state}") for state in STATES] + [("--card", "--accent"), ("--soft", "--mat"), ("--accent", "--unsure")]
TEXT += [("--unmet-ink", "--page"), ("--unmet-ink", "--card"), ("--unmet-ink", "--sunk")]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast_is_wcag_aa(theme: str) -> None:
    colors = _colors(theme)
    assert {pair: _contrast(colors, *pair) for pair in TEXT if _contrast(colors, *pair) < 4.5} == {}
    signs = [("--accent", "--page"), ("--accent", "--mat"), ("--bar", "--mat"), ("--bar", "--card"), ("--met-ink", "--mat")]
    assert {pair: _contrast(colors, *pair) for pair in signs if _contrast(colors, *pair) < 3.0} == {}


def _colors(theme: str) -> dict[str, str]:
    return dict(re.findall(r"(--[a-z-]+): (#[0-9a-f]{6});", theme))


def _contrast(colors: dict[str, str], ink: str, ground: str) -> float:
    light, dark = sorted((_luminance(colors[ink]), _luminance(colors[ground])), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    """WCAG 2, relative luminance."""
    parts = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_elements_escape_what_is_not_markup() -> None:
    assert (
        el("p", "<b>", el("i", "&"), None, class_='a"b', hidden=True, lang=None) == '<p class="a&quot;b" hidden>&lt;b&gt;<i>&amp;</i></p>'
    )
    assert el("img", alt="") == '<img alt="">'


@pytest.mark.parametrize(("text", "short"), [("a b", "a b"), ("one  two\nthree", "one two…"), ("x" * 50, "x" * 11 + "…")])
def test_shorten(text: str, short: str) -> None:
    assert shorten(text, 12) == short
