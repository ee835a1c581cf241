"""ComfyUI's folders, all below `base`, which a test sets."""

from __future__ import annotations

import os
from pathlib import Path

from _missing import missing

__getattr__ = missing(__name__)

base = Path("no-folder-is-set")
"""The folder of this ComfyUI."""
folder_names_and_paths: dict[str, object] = {}
"""Kinds of folders that another pack has added; only the names matter here."""


def get_output_directory() -> str:
    return str(base / "output")


def get_input_directory() -> str:
    return str(base / "input")


def get_temp_directory() -> str:
    return str(base / "temp")


def get_system_user_directory(name: str) -> str:
    return str(base / "user" / f"__{name}")


def get_folder_paths(kind: str) -> list[str]:
    """The output folder comes second, as for a ComfyUI that loads what it saved."""
    return [str(base / "models" / kind), str(base / "output" / kind)]


def get_filename_list(kind: str) -> list[str]:
    found = {
        path.relative_to(folder).as_posix()
        for folder in map(Path, get_folder_paths(kind))
        for path in folder.rglob("*")
        if path.is_file()
    }
    return sorted(found)


def get_full_path(kind: str, name: str) -> str | None:
    paths = (os.path.join(folder, name) for folder in get_folder_paths(kind))
    return next((path for path in paths if os.path.isfile(path)), None)


def get_full_path_or_raise(kind: str, name: str) -> str:
    path = get_full_path(kind, name)
    if path is None:
        raise FileNotFoundError(f"{name} is in no folder of {kind}")
    return path


def is_within_directory(folder: str, path: str) -> bool:
    """Links are followed; a path with a null byte is nowhere."""
    try:
        inner, outer = os.path.realpath(path), os.path.realpath(folder)
    except ValueError:
        return False
    return inner == outer or inner.startswith(outer + os.sep)
