"""report.html in a real browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clvr_core.report import write_report
from clvr_core.storage.png import save_png
from clvr_core.trajectory import Step
from tests.report.test_html import HOSTILE, drawn, picture, run
from tests.web.pictures import check


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """The same run in several states, each a page."""
    folder, whole = tmp_path_factory.mktemp("pages"), run()
    for canvas in range(7):
        save_png(folder / f"{canvas}.png", picture(canvas), whole, canvas)
    files = {canvas: folder / f"{canvas}.png" for canvas in range(7)}
    write_report(whole, files, folder / "run.html")
    words = HOSTILE.replace("alert(1)", "globalThis.hacked=1").replace("alert(2)", "globalThis.hacked=1")
    hostile = replace(
        whole.steps[0], reason=words + "endless" * 15_000, action=replace(whole.steps[0].action, summary=words)
    )
    brief = replace(whole.brief, prompt=words)
    write_report(
        replace(whole, brief=brief, steps=(hostile,), warnings=(words, "x" * 100_000), gate=words),
        files,
        folder / "hostile.html",
    )
    write_report(replace(whole, schema=99), files, folder / "newer.html")
    write_report(replace(whole, steps=tuple(many(500)), outcome=None, best=502), {}, folder / "long.html")
    return folder


def many(count: int) -> list[Step]:
    first, second = run().steps[:2]
    later = (
        replace(
            second, index=index, parent=index + 2 if index > 1 else 2, candidates=drawn(index + 3), chosen=index + 3
        )
        for index in range(1, count)
    )
    return [first, *later]


def test_report_html_in_a_browser(run_node, chromium, pages) -> None:
    output = run_node("--test", "--test-reporter=tap", "e2e/report.test.js", CHROMIUM=chromium, FOLDER=pages)
    assert "# fail 0" in output
    for name in ("report-light.png", "report-dark-narrow.png"):
        check(pages / name)
