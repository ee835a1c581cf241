"""Prompt templates: plain text files in which `$name` stands for a value. version.txt identifies the wording."""

from __future__ import annotations

import string
from functools import cache
from pathlib import Path


class Templates:
    """The templates of one folder, one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, name: str) -> bool:
        """Whether there is a template of this name."""
        return (self.folder / f"{name}.txt").is_file()

    @property
    def version(self) -> str:
        return _read(self.folder / "version.txt")

    def text(self, name: str, **values: str) -> str:
        """Fill in a template. A paragraph with an empty value is left out; `$name` inside a value is not replaced."""
        return "\n\n".join(
            paragraph.substitute(values)
            for paragraph, places in _paragraphs(self.folder, name)
            if all(values.get(place) != "" for place in places)
        )


@cache
def _paragraphs(folder: Path, name: str) -> tuple[tuple[string.Template, frozenset[str]], ...]:
    """The paragraphs of a template, each with the names that it has places for."""
    paragraphs = map(string.Template, _read(folder / f"{name}.txt").split("\n\n"))
    return tuple((paragraph, frozenset(_places(paragraph))) for paragraph in paragraphs)


def _places(template: string.Template) -> set[str]:
    # Template.get_identifiers is of Python 3.11.
    return {found["named"] or found["braced"] for found in template.pattern.finditer(template.template)}


@cache
def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8").rstrip("\n")
