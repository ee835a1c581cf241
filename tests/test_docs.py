"""What the docs name exists: files, functions, links, commands and flags."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clvr_core import cli
from tests.test_imports import FLOORS
from tests.test_package import file_requirements

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / name / "README.md" for name in ("workflows", "web", "examples")),
]
FOLDERS = ".ci|.github|benchmarks|clvr_core|configs|docs|examples|locales|nodes|subgraphs|tests|web|workflows"
TOP = r"[\w.-]+\.(?:md|toml|txt|yaml|py)|\.comfyignore"
OURS = re.compile(rf"(?:{FOLDERS})(?:/[\w.*-]*)*|{TOP}")
"""A token that names something in the repository."""
FOREIGN = {
    "clvr.toml",
    "servers.toml",
    "judge.toml",
    "other.toml",
    "briefs.txt",
    "prompts.txt",
    "requirements.txt",
    "version.txt",
}
"""Files of the user, and files named beside their folder."""
FOREIGN_FLAGS = {
    "--check",
    "--cold",
    "--config_file",
    "--disable-metadata",
    "--dist",
    "--ignore-scripts",
    "--mixed_precision",
    "--multi_gpu",
    "--structured-outputs-config",
    "--no-compile",
    "--nproc_per_node",
    "--num_processes",
    "--peers",
    "--repeat",
    "--user-directory",
}
"""Flags of pytest, npm, torchrun, accelerate, ruff and ComfyUI, and those of a benchmark that a page names without it."""
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
CODE = re.compile(r"```.*?\n(.*?)```|(?<!`)`([^`\n]+)`(?!`)", re.S)


def page_ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code(path: Path) -> list[str]:
    """Lines of code blocks and spans of inline code."""
    text = path.read_text("utf-8")
    return [line for block, span in CODE.findall(text) for line in (block or span).replace("\\|", "|").splitlines()]


def old_names(path: Path) -> set[str]:
    """The first column of the changelog's table of moved modules, whose files are no more."""
    text = path.read_text("utf-8")
    return set(re.findall(r"^\| `([^`]+)` \| `", text, re.M)) if path.name == "CHANGELOG.md" else set()


@pytest.mark.parametrize("page", PAGES, ids=page_ids)
def test_every_path_that_a_page_names_exists(page):
    for span in set(code(page)) - old_names(page):
        name, _, symbol = span.partition("::")
        if not OURS.fullmatch(name) or name in FOREIGN:
            continue
        places = [base for base in (ROOT, page.parent) if any(base.glob(name.rstrip("/")))]
        assert places, f"{page_ids(page)} names {name}"
        if symbol:
            text = (ROOT / name).read_text("utf-8")
            *_, last = symbol.split(".")
            assert re.search(rf"^\s*(?:(?:async )?def|class) {last}\b|^\s*{last}(?::.*)? =", text, re.M), span


@pytest.mark.parametrize("page", PAGES, ids=page_ids)
def test_every_link_to_a_file_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        name, _, anchor = target.partition("#")
        if ":" in name:
            continue
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page_ids(page)} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.M)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, f"{page_ids(page)} links to {target}"


@pytest.fixture(scope="module")
def flags() -> dict[tuple[str, ...], set[str]]:
    """The flags of every command, by its words, from `--help`."""
    return dict(_flags(()))


def _flags(words: tuple[str, ...]):
    text = _help(words)
    yield words, set(FLAG.findall(text))
    positional = re.search(r"positional arguments:\n  [A-Z]+\n(.*?)(?:\n\n|\Z)", text, re.S)
    for name in re.findall(r"^    (\S+)", positional[1], re.M) if positional else ():
        yield from _flags((*words, name))


def _help(words: tuple[str, ...]) -> str:
    import contextlib
    import io

    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
        cli.main([*words, "--help"])
    return shown.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=page_ids)
def test_every_command_that_a_page_shows_takes_its_flags(page, flags):
    known = set().union(*flags.values())
    for span in code(page):
        if script := re.search(r"python (benchmarks/\w+\.py)", span):
            assert set(FLAG.findall(span)) <= set(FLAG.findall((ROOT / script[1]).read_text("utf-8"))), span
            continue
        assert set(FLAG.findall(span)) <= known | FOREIGN_FLAGS, (page_ids(page), span)
        for command in re.findall(r"(?:\bclvr|clvr_core\.cli) ((?:[a-z0-9][a-z0-9-]* ?)+)(?=\s|$|-)[^|&]*", span):
            words: tuple[str, ...] = ()
            for word in command.split():
                if (*words, word) not in flags:
                    break
                words = (*words, word)
            taken = set().union(*(have for key, have in flags.items() if key[: len(words)] == words))
            after = span.partition(command)[2].partition("&&")[0]
            assert words, (page_ids(page), span)
            assert set(FLAG.findall(after)) <= taken, (page_ids(page), span)


def test_the_page_of_the_command_line_lists_every_command_and_flag(flags):
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    commands = {words[0] for words in flags if words}
    assert {name for name in commands if not re.search(rf"`clvr {name}\b", page)} == set()
    listed = set(FLAG.findall(page))
    assert set().union(*flags.values()) <= listed


def test_the_architecture_lists_the_floors_of_the_core():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    table = text.partition("## The floors of clvr_core")[2].partition("\n## ")[0]
    floors = [set(re.findall(r"`(\w+)`", row)) for row in re.findall(r"^\|[^|]*\|([^|]*)\|", table, re.M)]
    assert [floor for floor in floors if floor] == list(FLOORS)


def test_pre_commit_runs_the_pinned_ruff():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    pinned = {f"ruff{file_requirements('constraints.txt')['ruff']}"}
    assert set(re.findall(r"\[(ruff[^\]]*)\]", hooks)) == pinned


def test_how_to_pages_keep_to_their_number_of_files():
    """The files to touch are the numbered headings' paths in bold."""
    limits = {"add-a-strategy.md": 4, "add-an-executor.md": 4, "add-a-node-input.md": 5}
    for name, most in limits.items():
        page = ROOT / "docs" / "how-to" / name
        if page.exists():
            touched = set(re.findall(r"\*\*`([^`]+)`\*\*", page.read_text("utf-8")))
            assert 0 < len(touched) <= most, (name, touched)
