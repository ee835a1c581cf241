from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clvr_core.brief import Brief, Budget, Goal
from clvr_core.records import from_json
from clvr_core.report import bundle, write_report
from clvr_core.report.markup import el, shorten
from clvr_core.storage.png import save_png, write_png
from clvr_core.trajectory import Action, Candidate, Cost, EditCheck, Outcome, Step, Trajectory, Verdict

VOID = {"meta", "img", "br", "link", "hr", "col"}
ALONE = ()
"""Modules of the viewer that report.html does without."""
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
            one
            for one in self.walk()
            if one.tag == tag and all(one.attributes.get(name) == value for name, value in attributes.items())
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
        Brief(
            "a red circle and two blue squares",
            "director",
            42,
            budget=Budget(rounds=6, images=20, seconds=300.0),
            goals=GOALS,
        ),
        GOALS,
        {"executor": "klein", "judge": "exact"},
        (("g1", "g3"), ("g2",)),
        "staged: one shot is unlikely",
        steps,
        6,
        6,
        Outcome("all goals met", 6, True, "preferred to the one-shot picture in both orders"),
        Cost({"goals": 1.0}, 50, 1),
        ("step 1: the executor edits from 1 of 2 pictures; left out: canvas 0",),
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


def held(page: Element) -> dict:
    return json.loads(page.find("script", id="clvr-run")[0].text)


def test_the_whole_record_is_in_the_page(folder: Path) -> None:
    record = held(report(folder, run()))["record"]
    assert record["schema"] == 1 and from_json(Trajectory, record) == run()


def test_what_matters_is_said_without_a_script(folder: Path) -> None:
    page = report(folder, run())
    assert (
        page.find("title")[0].text.startswith("Brief met: a red circle")
        and page.find("html")[0].attributes["lang"] == "en"
    )
    (main,) = page.find("main")
    assert main.find("h1")[0].text == run().brief.prompt
    for words in ("Brief met", "all goals met", *(f"{goal.text}: met" for goal in GOALS)):
        assert words in main.text, words
    (image,) = main.find("img")
    assert image.attributes["src"].startswith("data:image/png;base64,") and image.attributes["alt"].endswith("canvas 6")


@pytest.mark.parametrize(("needs", "words"), [("mn", "nice to have, not met"), ("nn", "unmet"), ("mm", "unmet")])
def test_a_missed_nice_goal_is_no_failure_without_a_script_either(folder: Path, needs: str, words: str) -> None:
    goals = [replace(goal, need={"m": "must", "n": "nice"}[need]) for goal, need in zip(GOALS, needs)]
    last = replace(run().steps[3], verdicts=judged("met", "unmet"))
    trajectory = replace(run(), goals=tuple(goals), steps=(*run().steps[:3], last))
    assert f"two blue squares: {words}" in report(folder, trajectory).find("main")[0].text


def test_nothing_is_loaded_and_only_the_viewer_runs(folder: Path) -> None:
    page = report(folder, run())
    data, words, code = page.find("script")
    assert data.attributes["type"] == words.attributes["type"] == "application/json" and code.text == bundle.script()
    assert json.loads(words.text) == bundle.words()
    assert not page.find("link") and not page.find("iframe")
    for element in page.walk():
        assert not [name for name in element.attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "action", "srcset", "poster"):
            assert re.match(r"data:image/(png|jpeg);base64,|#", element.attributes.get(name, "#")), element.attributes
    style = page.find("style")[0].text
    assert "url(" not in style and "@import" not in style
    policy = page.find("meta", **{"http-equiv": "Content-Security-Policy"})[0].attributes["content"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for text in (code.text, style):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy


def test_each_module_of_the_viewer_is_in_it_once(folder: Path) -> None:
    code = bundle.script()
    assert not re.search(r"^(import|export)\b", code, re.M) and "</script" not in code
    assert {f"const ${path.stem} = (" for path in bundle.folder().glob("*.js")} <= set(
        re.findall(r"^const \$\w+ = \(", code, re.M)
    ) | {f"const ${name} = (" for name in ALONE}
    assert len(set(re.findall(r"^const \$(\w+)", code, re.M))) == code.count("\n})();\n")


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
    outcome = Outcome(HOSTILE, 0, False, HOSTILE)
    trajectory = Trajectory(
        Brief(HOSTILE), goals, {HOSTILE: HOSTILE}, ((HOSTILE,),), HOSTILE, (step,), 0, 0, outcome, Cost(), (HOSTILE,)
    )
    page = report(folder, trajectory)
    source = (folder / "report.html").read_text("utf-8")
    assert source.count("<script") == source.count("</script") == 3 and "<b>" not in source
    assert not {"b"} & {element.tag for element in page.walk()} and len(page.find("img")) == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\ud800-\udfff]", source)
    assert from_json(Trajectory, held(page)["record"]) == trajectory
    for element in page.find("main")[0].walk():
        assert "onerror" not in element.attributes
        if any(isinstance(child, str) and "\u202e" in child for child in element.children):
            assert element.tag == "bdi" or element.attributes.get("dir") == "auto", element.tag


def test_the_words_without_a_script_are_not_endless(folder: Path) -> None:
    long = "endless" * 100_000
    page = report(
        folder, replace(run(), brief=replace(run().brief, prompt=long[:20_000]), outcome=Outcome(long, 6, True))
    )
    assert len(page.find("h1")[0].text) <= 280 and len(page.find("main")[0].text) < 50_000


def test_every_picture_is_in_the_page_once(folder: Path) -> None:
    page = report(folder, run())
    pictures = held(page)["pictures"]
    assert (
        set(pictures) == {"0", "1", "2", "3", "4", "5"}
        and page.find("main")[0].find("img")[0].attributes["data-canvas"] == "6"
    )
    assert all(picture["url"].startswith("data:image/png;base64,") for picture in pictures.values())


def test_a_missing_or_broken_picture_says_so(folder: Path) -> None:
    (folder / "run" / "5.png").unlink()
    (folder / "run" / "6.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    page = report(folder, run())
    pictures = held(page)["pictures"]
    assert pictures["5"] == {"missing": "is not in the run folder"} and pictures["6"] == {
        "missing": "cannot be read as a picture"
    }
    assert "There is no picture" in page.find("main")[0].text
    for found in ({}, lambda canvas: None):
        write_report(run(), found, folder / "none.html")
        assert not parse(folder / "none.html").find("img")


def test_small_pictures_keep_every_pixel_and_large_ones_are_reduced(folder: Path) -> None:
    write_png(folder / "run" / "5.png", np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8), {})
    pictures = held(report(folder, run()))["pictures"]
    with Image.open(io.BytesIO(base64.b64decode(pictures["4"]["url"].partition(",")[2]))) as small:
        assert np.array_equal(np.array(small), picture(4))
    with Image.open(io.BytesIO(base64.b64decode(pictures["5"]["url"].partition(",")[2]))) as large:
        assert large.format == "JPEG" and large.size == (1024, 768)


@pytest.mark.parametrize(
    "trajectory",
    [
        Trajectory(Brief("x")),
        Trajectory(Brief("x"), GOALS, outcome=Outcome("stopped by hand", None, False)),
        Trajectory(Brief("x"), steps=(Step(0, Action("END")),), outcome=Outcome("", 99, True)),
        Trajectory(
            Brief("x"),
            steps=(Step(0, Action("EDIT", region=(float("nan"), 0.0, 9.0, -9.0)), 5, cost=Cost({"a": float("inf")})),),
        ),
    ],
    ids=["bare", "no canvas", "unknown canvas", "odd numbers"],
)
def test_a_run_with_little_in_it_is_a_page_too(folder: Path, trajectory: Trajectory) -> None:
    page = report(folder, trajectory)
    assert page.find("h1")[0].text == "x" and held(page)["record"]["brief"]["prompt"] == "x"


def test_the_file_is_whole_or_the_old_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report(folder, run())
    old = (folder / "report.html").read_bytes()

    def broken(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("clvr_core.storage.atomic.os.replace", broken)
    with pytest.raises(OSError, match="no space left"):
        write_report(Trajectory(Brief("other")), {}, folder / "report.html")
    assert (folder / "report.html").read_bytes() == old
    assert {file.name for file in folder.iterdir()} == {"run", "report.html"}


def test_an_installed_package_holds_the_viewer(tmp_path: Path) -> None:
    """Its one source stands in web/viewer, beside the package."""
    pytest.importorskip("setuptools")
    root = Path(__file__).parents[2]
    # The metadata would be written into the sources, which may be read-only.
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    command += ["build_py", "--build-lib", str(tmp_path)]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    installed = tmp_path / "clvr_core" / "report"
    for held, source in ((installed / "web", bundle.folder()), (installed / "locales", bundle.locales())):
        assert {path.relative_to(held): path.read_bytes() for path in held.rglob("*.js*")} == {
            path.relative_to(source): path.read_bytes()
            for path in source.rglob("*.js*")
            if path.name != "nodeDefs.json"  # ComfyUI's
        }


def test_the_words_of_the_viewer_are_in_it_in_every_language_and_no_others() -> None:
    words = bundle.words()
    assert sorted(words) == ["ja", "ko", "zh"] and all(len(known) > 250 for known in words.values())
    assert words["zh"]["Goals"] == "\u76ee\u6807" and "{n} run" not in words["zh"], "the gallery is not in a report"


def test_dark_and_print_are_provided_for() -> None:
    assert "color-scheme: light dark" in bundle.style() and "@media print" in bundle.style()
    assert set(re.findall(r"var\((--[a-z-]+)\)", bundle.style())) <= set(COLORS) | {"--border-color"}


COLORS: dict[str, tuple[str, str]] = {
    name: (light, dark)
    for name, light, dark in re.findall(
        r"^  (--[a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", bundle.style(), re.M
    )
}
STATES = ("met", "unmet", "broken", "pending", "unsure", "error")
TEXT = [(ink, ground) for ink in ("--ink", "--soft", "--accent") for ground in ("--page", "--card", "--sunk")]
TEXT += [(f"--{state}-ink", f"--{state}") for state in STATES] + [
    ("--card", "--accent"),
    ("--soft", "--mat"),
    ("--accent", "--unsure"),
]
TEXT += [("--unmet-ink", "--page"), ("--unmet-ink", "--card"), ("--unmet-ink", "--sunk")]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast_is_wcag_aa(theme: int) -> None:
    colors = {name: pair[theme] for name, pair in COLORS.items()}
    assert {pair: _contrast(colors, *pair) for pair in TEXT if _contrast(colors, *pair) < 4.5} == {}
    signs = [
        ("--accent", "--page"),
        ("--accent", "--mat"),
        ("--bar", "--mat"),
        ("--bar", "--card"),
        ("--met-ink", "--mat"),
    ]
    assert {pair: _contrast(colors, *pair) for pair in signs if _contrast(colors, *pair) < 3.0} == {}


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
        el("p", "<b>", el("i", "&"), None, class_='a"b', hidden=True, lang=None)
        == '<p class="a&quot;b" hidden>&lt;b&gt;<i>&amp;</i></p>'
    )
    assert el("img", alt="") == '<img alt="">'


@pytest.mark.parametrize(
    ("text", "short"), [("a b", "a b"), ("one  two\nthree", "one two\u2026"), ("x" * 50, "x" * 11 + "\u2026")]
)
def test_shorten(text: str, short: str) -> None:
    assert shorten(text, 12) == short
