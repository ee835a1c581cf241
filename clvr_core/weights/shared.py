"""Folders of weights that have some of their parts in the folder beside them, so that what is alike lies there once."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from ..errors import BadInput
from ..reading import json_of

FILE = "clvr_shared.json"
"""Names the folder beside, and the parts that are taken from it: `{"folder": "weights", "parts": ["vae"]}`."""


def shared_parts(folder: Path) -> dict[str, Path]:
    """Return where the parts lie that the folder takes from the one beside it, by their names; none without FILE.

    Raises BadInput for a damaged FILE, and for one that leads elsewhere than beside the folder.
    """
    file = folder / FILE
    try:
        found = json_of(file.read_text(encoding="utf-8"))
        beside, parts = found["folder"], found["parts"]
        if not all(isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name) for name in (beside, *parts)):
            raise ValueError("folder and parts are plain names")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{file} does not say which parts lie in the folder beside ({error}); restore the folder or reinstall clvr"
        ) from error
    home = folder.resolve().parent / beside
    return {name: home / name for name in parts}


def place_of(folder: Path, part: str) -> Path:
    """Return where a part of a folder of weights lies, in the folder or beside it. Raises as `shared_parts` does."""
    return shared_parts(folder).get(part, folder / part)


def files_of(folder: Path) -> dict[str, Path]:
    """Return where the files of a folder of weights lie, by their relative names in order, those beside it too, FILE
    left out. Raises as `shared_parts` does."""
    places = {"": folder, **{f"{part}/": place for part, place in shared_parts(folder).items()}}
    found = {
        f"{start}{path.relative_to(place).as_posix()}": path
        for start, place in places.items()
        for path in place.rglob("*")
        if path.is_file() and path != folder / FILE
    }
    return dict(sorted(found.items(), key=lambda item: item[0].split("/")))


def copy(folder: Path, to: Path, leave: Collection[str] = ()) -> None:
    """Copy a folder of weights whole, into a new folder. leave: relative names of files that are left out.

    Raises as `shared_parts` does.
    """
    for name, path in files_of(folder).items():
        if name not in leave:
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to / name)


def share(folder: Path, beside: Path, parts: Collection[str]) -> None:
    """Remove those of the parts from a whole folder that are the same in the folder beside it, and take them from there."""
    own, other = files_of(folder), files_of(beside)

    def of(part: str, files: dict[str, Path]) -> dict[str, bytes]:
        return {name: path.read_bytes() for name, path in files.items() if name.startswith(f"{part}/")}

    alike = [part for part in parts if of(part, own) == of(part, other) != {}]
    for part in alike:
        shutil.rmtree(folder / part)
    if alike:
        (folder / FILE).write_text(json.dumps({"folder": beside.name, "parts": alike}, indent=1))
