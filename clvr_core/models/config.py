"""clvr.toml: which models a run uses on this machine. Workflows and trajectories never hold an address or a key."""

from __future__ import annotations

import dataclasses
import re
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import BadInput
from ..executor.remote import ImageServer
from ..http_json import Limits
from ..records import from_json
from ..vlm.local import Local
from ..vlm.server import Endpoint
from ..weights.manifest import TOKENIZERS
from ..world import WORLDS, WorldName, current
from .memory_plan import MODES
from .memory_plan import Mode as Memory
from .witnesses import WitnessSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class Server:
    """A vision-language model behind an OpenAI-compatible server; fields as in `Endpoint` and `Limits`."""

    url: str
    model: str = ""
    key_variable: str = ""
    image_side: int = 1024
    max_tokens: int = 1536
    parallel: int = 4
    timeout: float = 120.0
    retries: int = 3
    wait: float = 600.0
    picture: Literal["jpeg", "png"] = "jpeg"
    urls: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def endpoint(self) -> Endpoint:
        limits = Limits(timeout=self.timeout, retries=self.retries, wait=self.wait)
        own = {each.name for each in dataclasses.fields(Endpoint)}
        shared = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name in own}
        return Endpoint(**shared, limits=limits)


@dataclass(frozen=True, slots=True)
class Embedded:
    """The controller and judge of an embedded world. kind: the world, `embedded` for the usual one; with `-exact` its
    programs, with `-neural` its learned model."""

    kind: Literal["embedded", WorldName, "embedded-exact", "embedded-neural", "stickers-exact", "stickers-neural"]


MAX_TOML = 1 << 18
"""Bytes of a file of settings."""
MAX_DOTS = 100
"""Dots in one of its lines: the parser takes the square of their number."""
PARTS = ("transformer", "text_encoder", "vae", "tokenizer")


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """A diffusion model in this process.

    kind: `klein`: a Flux2KleinPipeline or its KV variant. `qwen-edit`: a QwenImageEditPlusPipeline. `generic`: any
        pipeline that takes `prompt` and `image`. `embedded`, or an embedded world's name: its weights.
    folder: in diffusers' format; of an embedded world in place of the installed weights.
    hub: owner/name on the model hub, in place of `folder`; read from the hub's cache on this machine.
    download: whether `hub` may be fetched.
    transformer: a file by ComfyUI's or Black Forest Labs' names that takes the place of the folder's own.
    text_encoder, vae: files, of klein only. With transformer, text_encoder, vae and tokenizer klein needs no folder.
    tokenizer: a folder with Qwen3's tokenizer, of klein only.
    loras: FILE or FILE:STRENGTH, merged into the transformer in order.
    steps, guidance: in place of those of the weights.
    references: references that a generic pipeline edits from at most; None for any number.
    device: as torch names it; `auto` takes a GPU if there is one.
    dtype: that the weights are loaded in.
    storage: `fp8` stores the transformer in half of bfloat16's memory.
    width, height: of the canvas, in pixels; multiples of 16 from 64 to 4096.
    tiled_vae: whether the VAE works in tiles of 512 pixels, in less memory.
    """

    kind: Literal["klein", "qwen-edit", "generic", "embedded", WorldName] = "klein"
    folder: str = ""
    hub: str = ""
    download: bool = False
    transformer: str = ""
    text_encoder: str = ""
    vae: str = ""
    tokenizer: str = ""
    loras: tuple[str, ...] = ()
    steps: int | None = None
    guidance: float | None = None
    references: int | None = None
    device: str = "auto"
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    storage: Literal["", "fp8"] = ""
    width: int = 1024
    height: int = 1024
    tiled_vae: bool = False

    def __post_init__(self) -> None:
        parts = {name: getattr(self, name) for name in PARTS}
        if self.kind != "klein" and (given := [name for name in PARTS[1:] if parts[name]]):
            raise BadInput(f"[executor] of kind {self.kind} takes no {given[0]}; only klein is put together from files")
        if self.references is not None and (self.kind != "generic" or self.references < 1):
            raise BadInput(f"[executor] references is {self.references}; it is for kind generic, and at least 1")
        if self.kind == "klein" and not self.folder and not self.hub and any(parts.values()):
            if lacks := [name for name in PARTS if not parts[name]]:
                raise BadInput(
                    f"[executor] without a folder needs {', '.join(PARTS)}; it lacks {' and '.join(map(_where, lacks))}"
                )
        elif not self.embedded and bool(self.folder) == bool(self.hub):
            found = "both" if self.folder else "neither"
            raise BadInput(
                f"[executor] of kind {self.kind} needs a folder, the one that holds model_index.json, or a hub name; it has {found}"
            )
        if self.hub and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.hub):
            raise BadInput(f"[executor] hub is {self.hub!r}; write it as owner/name")

    @property
    def embedded(self) -> bool:
        """Whether the weights are of an embedded world."""
        return self.kind in ("embedded", *WORLDS)


def _where(part: str) -> str:
    return f"{part}: {TOKENIZERS}" if part == "tokenizer" else part


def _check_canvas(settings: ExecutorSettings | ImageServer) -> None:
    for name in ("width", "height"):
        value = getattr(settings, name)
        if not 64 <= value <= 4096 or value % 16:
            raise BadInput(f"[executor] {name} is {value}; it must be a multiple of 16 between 64 and 4096")
    if settings.steps is not None and not 1 <= settings.steps <= 1000:
        raise BadInput(f"[executor] steps is {settings.steps}; it must be between 1 and 1000")


@dataclass(frozen=True, slots=True)
class Config:
    """The models of a run.

    controller: plans the picture.
    executor: draws it.
    verifier: judges it; None if the controller does.
    memory: how models share the device, see `MemoryPlan`; `auto` chooses by the free memory.
    witnesses: what looks at the pictures beside the verifier.
    """

    controller: Server | Local | Embedded
    executor: ExecutorSettings | ImageServer
    verifier: Server | Local | Embedded | None = None
    memory: Memory | Literal["auto"] = "auto"
    witnesses: WitnessSettings = field(default_factory=WitnessSettings)


def parsed(path: Path) -> dict[str, Any]:
    """Parse a TOML file. Raises BadInput if it cannot be read, or is longer or deeper than settings ever are."""
    try:
        if path.stat().st_size > MAX_TOML:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, and at most {MAX_TOML:,} are read")
        text = path.read_text(encoding="utf-8")
        if max((line.count(".") for line in text.splitlines()), default=0) > MAX_DOTS:
            raise ValueError(f"a line of it has more than {MAX_DOTS} dots")
        return tomllib.loads(text)
    except RecursionError as error:
        raise BadInput(f"{path} is not TOML of settings: it is nested too deeply") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOML's own error, or bytes that are no UTF-8
        raise BadInput(f"{path} is not TOML: {error}") from error


def read_config(path: Path) -> Config:
    """Read a clvr.toml; paths in it are relative to the file.

    Raises BadInput naming the file and the field for what cannot be read, is not known, or is out of range.
    """
    return settings_of(parsed(path), path, path.parent)


def settings_of(data: dict[str, Any], path: Path, beside: Path) -> Config:
    """Build a configuration from parsed TOML. path: of the file, named in errors. beside: folder that paths are
    relative to.

    Raises BadInput as `read_config` does.
    """
    try:
        _known(Config, data, "")
        memory = data.get("memory", "auto")
        if memory not in ("auto", *MODES):
            raise BadInput(f"memory is {memory!r:.40}; choose from auto, {', '.join(MODES)}")
        readers = {"controller": _vlm, "verifier": _vlm, "executor": _executor, "witnesses": _witnesses}
        parts = {name: read(name, data[name]) for name, read in readers.items() if name in data}
        for name in ("controller", "executor"):
            if name not in parts:
                raise BadInput(f"{name} is missing")
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from error
    return Config(**{name: _placed(part, beside) for name, part in parts.items()}, memory=memory)


def read_servers(path: Path) -> dict[str, Server]:
    """Read a file with one table of `Server` settings for each server, and return them by name; empty if there is no
    file.

    Raises BadInput naming the file and the field for what cannot be read, is not known, or is out of range.
    """
    try:
        tables = parsed(path) if path.exists() else {}
        return {name: _server(name, table) for name, table in tables.items()}
    except ValueError as error:
        raise BadInput(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def _server(name: str, table: Any) -> Server:
    if not isinstance(table, dict):
        raise BadInput(f"{name}: expected a table [{name}] with a url, found {table!r:.80}")
    _known(Server, table, f"{name}.")
    server = from_json(Server, _with_one_url(table), name)
    _ = server.endpoint  # raises for what is out of range
    return server


def _with_one_url(data: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with the first of several addresses as `url` and the others as `urls`."""
    urls = data.get("url")
    return {**data, "url": urls[0], "urls": urls[1:]} if isinstance(urls, list) and urls else data


def _vlm(name: str, data: Any) -> Server | Local | Embedded:
    """Build the settings of a vision-language model: `Embedded` if it has a kind, `Server` if a url, `Local` if a
    folder.
    """
    if not isinstance(data, dict):
        raise BadInput(f"{name}: expected an object, found {data!r:.80}")
    if "kind" in data:
        _known(Embedded, data, f"{name}.")
        return from_json(Embedded, _of_today(data), name)
    if ("url" in data) == ("folder" in data):
        found = "both" if "url" in data else "neither"
        raise BadInput(
            f"{name} has {found} of url and folder; give the url of a server or the folder of a model that runs here"
        )
    cls = Server if "url" in data else Local
    _known(cls, data, f"{name}.")
    return from_json(cls, _with_one_url(data), name)


def _of_today(data: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with the name that a kind has now."""
    kind = data.get("kind")
    return {**data, "kind": current(kind)} if isinstance(kind, str) else data


def _witnesses(name: str, data: Any) -> WitnessSettings:
    if not isinstance(data, dict):
        raise BadInput(f"{name}: expected a table with text or objects, found {data!r:.80}")
    _known(WitnessSettings, data, f"{name}.")
    return from_json(WitnessSettings, data, name)


def _executor(name: str, data: Any) -> ExecutorSettings | ImageServer:
    if not isinstance(data, dict):
        raise BadInput(f"{name}: expected an object, found {data!r:.80}")
    cls = ImageServer if "url" in data else ExecutorSettings
    _known(cls, data, f"{name}.")
    settings = from_json(cls, _of_today(_with_one_url(data)), name)
    _check_canvas(settings)
    return settings


def _placed(part: Any, beside: Path) -> Any:
    """Return the settings with paths relative to `beside`, `~` expanded."""

    def placed(file: str) -> str:
        return str(beside / Path(file).expanduser())

    files: dict[str, Any] = {
        name: placed(getattr(part, name))
        for name in ("folder", "objects", "likeness", *PARTS)
        if getattr(part, name, "")
    }
    if getattr(part, "loras", ()):
        files["loras"] = tuple(map(placed, part.loras))
    return dataclasses.replace(part, **files) if files else part


def _known(cls: type, data: dict[str, Any], where: str) -> None:
    """Raise BadInput for a name that is not a field of `cls`, so that no mistyped setting is ignored. where: prefix of
    the name in errors.
    """
    hints = typing.get_type_hints(cls)
    for name, value in data.items():
        if name not in hints:
            raise BadInput(f"{where}{name} is not a setting; choose from {', '.join(hints)}")
        hint = hints[name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, dict):
            _known(hint, value, f"{where}{name}.")
