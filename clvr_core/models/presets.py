"""Presets: sets of models by name, from models.toml."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput
from .config import PARTS, Config, parsed, settings_of
from .memory_plan import Weights

FILE = Path(__file__).with_name("models.toml")
VARIABLE = "CLVR_MODELS"


@dataclass(frozen=True, slots=True)
class Preset:
    """A set of models.

    about: one line for a person.
    weights: sizes as published; the disk is not read.
    settings: the tables of a clvr.toml.
    """

    name: str
    about: str
    weights: tuple[Weights, ...]
    settings: dict[str, Any]

    def config(self, weights: str = "") -> Config:
        """Return the configuration, with folders relative to `weights`, or to the environment variable if that is
        empty.

        Raises BadInput naming the files and folders that are missing.
        """
        root = Path(weights or os.environ.get(VARIABLE, "") or "models")
        config = settings_of(self.settings, FILE, root)
        parts = (config.controller, config.verifier, config.executor)
        wanted = [getattr(part, name, "") for part in parts for name in ("folder", *PARTS)]
        if missing := [Path(file).name for file in wanted if file and not Path(file).exists()]:
            raise BadInput(
                f"--models {self.name} needs {' and '.join(missing)} in {root}; put what is published under these names there, or name "
                f"the folder that holds them with --weights DIR or the environment variable {VARIABLE}"
            )
        return config


def presets() -> dict[str, Preset]:
    found = {}
    for name, settings in parsed(FILE).items():
        settings = dict(settings)
        about, sizes = settings.pop("about"), settings.pop("sizes", {})
        weights = (
            Weights(part, round(size * 1e9), owner) for owner, parts in sizes.items() for part, size in parts.items()
        )
        found[name] = Preset(name, about, tuple(weights), settings)
    return found
