"""The viewer without a browser: its types, and its unit tests in jsdom."""

from __future__ import annotations

from pathlib import Path


def test_the_types_fit(run_node) -> None:
    run_node("node_modules/typescript/bin/tsc", "--project", ".")


def test_the_unit_tests_of_the_web_part_pass(run_node) -> None:
    output = run_node("--test", "--test-reporter=tap", "unit/", NODE_OPTIONS="")
    assert "# fail 0" in output and "# pass 0" not in output


def test_no_module_parses_words_as_markup_or_reaches_out() -> None:
    banned = (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "http://",
        "https://",
        ".prototype",
        "localStorage",
    )
    allowed = {"http://www.w3.org/2000/svg"}
    for path in (Path(__file__).parents[2] / "web").rglob("*.js"):
        text = path.read_text("utf-8")
        for address in allowed:
            text = text.replace(address, "")
        assert not [word for word in banned if word in text], path


def test_the_lock_file_names_no_registry() -> None:
    text = (Path(__file__).parent / "package-lock.json").read_text("utf-8")
    assert '"resolved"' not in text and "://" not in text
