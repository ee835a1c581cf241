"""Scales of LoRA and LoKr deltas: alpha and rank from the file itself, or from PEFT's settings in it or beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite, sqrt
from typing import Any

from ..errors import BadInput
from ..reading import json_of
from ..weights.checkpoint import Checkpoint

_PATTERN = re.compile(r"(\^?)((?:[\w-]|\\?\.)+)\$?")


class Scales:
    """The scales of the modules of one LoRA or LoKr file.

    dora: the settings say that the file is a DoRA.

    In both methods `alpha` is the value of the tensor `MODULE.alpha` in the file, None if there is no such tensor;
    `rank` is that of the module's factors.
    """

    def __init__(self, file: Checkpoint) -> None:
        """Read the settings.

        Raises BadInput if they are damaged, or name modules by a regular expression.
        """
        settings, self._file = _settings(file), file
        self.dora = bool(settings.get("use_dora"))
        self._rs, self._of_lokr = (
            bool(settings.get("use_rslora")),
            "lora_alpha" not in settings and {"alpha", "r"} <= settings.keys(),
        )
        self._alpha, self._rank = settings.get("alpha" if self._of_lokr else "lora_alpha"), settings.get("r")
        self._alphas, self._ranks = (self._named(settings.get(key) or {}) for key in ("alpha_pattern", "rank_pattern"))

    def lora(self, module: str, alpha: float | None, rank: int) -> float:
        """Return alpha / r, for rsLoRA alpha / sqrt(r); 1 if neither the file nor the settings give an alpha."""
        alpha = self._find(module, self._alphas, self._alpha) if alpha is None else alpha
        return 1.0 if alpha is None else alpha / (sqrt(rank) if self._rs else rank)

    def lokr(self, module: str, alpha: float | None, rank: int | None) -> float:
        """Return the scale of a LoKr module.

        LyCORIS: alpha / rank if one of the two factors is itself stored as a product (`rank` is not None), else 1.
        PEFT: alpha / r of its settings for every module.
        """
        if alpha is None and self._of_lokr:
            return self._find(module, self._alphas, self._alpha) / self._find(module, self._ranks, self._rank)
        return 1.0 if alpha is None or rank is None else alpha / rank

    def _named(self, pattern: Mapping[str, float]) -> list[tuple[bool, str, float]]:
        found = []
        for key, value in pattern.items():
            if not (read := _PATTERN.fullmatch(key)):
                where = f"{self._file.path}: its settings name modules by the pattern {key!r:.80}"
                raise BadInput(f"{where}, and only names are read; merge it where it was made")
            found.append((bool(read[1]), read[2].replace("\\", ""), value))
        return found

    @staticmethod
    def _find(module: str, named: list[tuple[bool, str, float]], default: Any) -> Any:
        module = module.removeprefix("base_model.model.")
        return next(
            (value for whole, name, value in named if module == name or (not whole and module.endswith("." + name))),
            default,
        )


def _settings(file: Checkpoint) -> dict[str, Any]:
    beside = file.path.with_name("adapter_config.json")
    text = file.metadata.get("lora_adapter_metadata")
    source = "its lora_adapter_metadata"
    try:
        if text is None and file.path.name.startswith("adapter_model") and beside.is_file():
            source, text = beside.name, beside.read_text()
        found = json_of(text) if text else {}
        # diffusers writes the settings of all its models into one object: transformer.lora_alpha.
        settings = {key.removeprefix("transformer.").removeprefix("unet."): value for key, value in found.items()}
        patterns = [value for key in ("alpha_pattern", "rank_pattern") for value in (settings.get(key) or {}).values()]
        for value in (settings.get("lora_alpha"), settings.get("alpha"), settings.get("r"), *patterns):
            if value is not None and not (type(value) in (int, float) and isfinite(value)):
                raise ValueError("an alpha or a rank is no number")
        if any(rank == 0 for rank in (settings.get("r"), *(settings.get("rank_pattern") or {}).values())):
            raise ValueError("a rank is 0")
    except (ValueError, AttributeError, OSError) as error:
        raise BadInput(f"{file.path}: {source} is damaged ({str(error)[:80]}); get the file anew") from error
    return settings
