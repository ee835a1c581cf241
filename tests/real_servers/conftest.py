"""The servers that the tests here share. Each is started once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .processes import HERE, free_port, run, serving


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("real-servers")


@pytest.fixture(scope="session")
def folder(place) -> Path:
    """A model that sees and begins with Yes or No."""
    from . import plain_eyes

    return plain_eyes.save(place / "eyes")


@pytest.fixture(scope="session")
def files(folder) -> tuple[Path, Path]:
    """The same for llama.cpp: the language model, and its vision part."""
    run([HERE / "gguf_files.py", folder])
    return folder / "model.gguf", folder / "mmproj.gguf"


@pytest.fixture(scope="session")
def llama(files, place) -> Iterator[str]:
    port = free_port()
    with serving([HERE / "llama.py", port, *files], port, place / "llama.log") as url:
        yield url


@pytest.fixture(scope="session")
def blind_llama(files, place) -> Iterator[str]:
    """The language model alone."""
    port = free_port()
    with serving([HERE / "llama.py", port, files[0]], port, place / "blind.log") as url:
        yield url


@pytest.fixture(scope="session")
def serve(place) -> Iterator[tuple[str, str]]:
    """transformers serve: its url, and the name of the model that it serves."""
    from . import plain_eyes

    folder, port = plain_eyes.save(place / "eyes-in-json", words_first=False), free_port()
    start = "from transformers.cli.transformers import main; main()"
    flags = ["serve", "--host", "127.0.0.1", "--port", port, "--device", "cpu", folder]
    with serving(["-c", start, *flags], port, place / "serve.log") as url:
        yield url, str(folder)


FILE = """
[controller]
url = "{url}"
model = "{model}"
image_side = 128
timeout = 600
[executor]
kind = "embedded"
"""


@pytest.fixture
def settings(tmp_path):
    def write(url: str, model: str = "") -> str:
        (tmp_path / "clvr.toml").write_text(FILE.format(url=url, model=model))
        return str(tmp_path / "clvr.toml")

    return write
