"""clvr.toml: which models a run uses, on the machine that runs it. A workflow or a trajectory never names an address or a key."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import BadInput
from .records import from_json
from .vlm.http import Limits
from .vlm.server import Endpoint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class Server:
    """A vision-language model behind an OpenAI-compatible server; the fields of `Endpoint` and `Limits`."""

    url: str
    model: str = ""
    key_variable: str = ""
    image_side: int = 1024
    max_tokens: int = 1536
    parallel: int = 4
    timeout: float = 120.0
    retries: int = 3

    @property
    def endpoint(self) -> Endpoint:
        limits = Limits(timeout=self.timeout, retries=self.retries)
        return Endpoint(self.url, self.model, self.key_variable, self.image_side, self.max_tokens, self.parallel, limits)


@dataclass(frozen=True, slots=True)
class Painter:
    """kind: `klein` for a Flux2KleinPipeline folder, `shapes` for the embedded weights. device: as torch names it, `auto` takes a GPU if
    there is one. width, height: of the canvas in pixels."""

    kind: Literal["klein", "shapes"] = "klein"
    folder: str = ""
    device: str = "auto"
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    width: int = 1024
    height: int = 1024

    def __post_init__(self) -> None:
        if self.kind == "klein" and not self.folder:
            raise BadInput("[executor] of kind klein needs a folder, the one that holds model_index.json")
        for name in ("width", "height"):
            value = getattr(self, name)
            if not 64 <= value <= 4096 or value % 16:
                raise BadInput(f"[executor] {name} is {value}; it must be a multiple of 16 between 64 and 4096")


@dataclass(frozen=True, slots=True)
class Config:
    """verifier: the controller's model if it is left out."""

    controller: Server
    executor: Painter
    verifier: Server | None = None


def read_config(path: Path) -> Config:
    """Raises BadInput naming the file and the field for what cannot be read, is not known, or is out of range.

    A folder in it is relative to the file.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOML's own error, or bytes that are no UTF-8
        raise BadInput(f"{path} is not TOML: {error}") from error
    try:
        _known(Config, data, "")
        config = from_json(Config, data, path.name)
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from error
    if config.executor.folder:
        folder = str(path.parent / Path(config.executor.folder).expanduser())
        config = dataclasses.replace(config, executor=dataclasses.replace(config.executor, folder=folder))
    return config


def _known(cls: type, data: dict[str, Any], where: str) -> None:
    """Raises BadInput for a name that is not a field: a setting that was mistyped would else be passed over in silence."""
    hints = typing.get_type_hints(cls)
    for name, value in data.items():
        if name not in hints:
            raise BadInput(f"{where}{name} is not a setting; choose from {', '.join(hints)}")
        hint = hints[name]
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            hint = next(each for each in typing.get_args(hint) if each is not type(None))
        if dataclasses.is_dataclass(hint) and isinstance(value, dict):
            _known(hint, value, f"{where}{name}.")
