"""The viewer's JavaScript modules joined into one script, its style sheet, and its words in other languages.

A page opened from a disk cannot load modules from files beside it, so a report contains them.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

ENTRY = "report"
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.js";\n', re.M)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const) (\w+))", re.M)


def folder() -> Path:
    """Return the folder of the viewer: in an installed package a copy beside this module, in a clone web/viewer."""
    copied = Path(__file__).with_name("web")
    return copied if copied.is_dir() else Path(__file__).parents[2] / "web" / "viewer"


def locales() -> Path:
    """Return the folder of the languages, likewise."""
    copied = Path(__file__).with_name("locales")
    return copied if copied.is_dir() else Path(__file__).parents[2] / "locales"


@cache
def words() -> dict[str, dict[str, str]]:
    """Return by language, English apart, the words of the viewer: in English -> in that language."""
    code, found = script(), {}
    for path in sorted(locales().glob("*/main.json")):
        known = json.loads(path.read_text("utf-8"))["clvr"]["words"]
        # As they stand in the code, whose string literals are JSON.
        found[path.parent.name] = {
            english: said for english, said in known.items() if said != english and json.dumps(english) in code
        }
    return {language: known for language, known in found.items() if language != "en"}


@cache
def style() -> str:
    return (folder() / "style.css").read_text("utf-8")


@cache
def script() -> str:
    """Return the script that shows the run in the page. Each module is wrapped into a function, which keeps its names
    to itself."""
    done: dict[str, str] = {}
    _add(ENTRY, done)
    return "".join(done.values()) + f"${ENTRY}.showReport();\n"


def _add(name: str, done: dict[str, str]) -> None:
    text = (folder() / f"{name}.js").read_text("utf-8")
    for _, needed in _IMPORT.findall(text):
        if needed not in done:
            _add(needed, done)
    names = ", ".join(found for _, found in _EXPORT.findall(text))
    body = _EXPORT.sub(r"\1", _IMPORT.sub(r"const \1 = $\2;\n", text))
    done[name] = f"const ${name} = (() => {{\n{body}return {{ {names} }};\n}})();\n"
