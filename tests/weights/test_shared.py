"""Folders of weights that have parts in the folder beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clvr_core.errors import BadInput
from clvr_core.weights.manifest import check_manifest, digests, write_manifest
from clvr_core.weights.shared import FILE, copy, files_of, place_of, share, shared_parts

WHOLE = {"vae/config.json": "v", "text_encoder/config.json": "t", "transformer/config.json": "own", "index.json": "i"}


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    write_manifest(folder)
    return folder


@pytest.fixture
def two(tmp_path):
    """A base, and a whole folder that has its VAE and another text encoder."""
    base = written(tmp_path / "weights", WHOLE)
    return base, written(tmp_path / "merged", WHOLE | {"text_encoder/config.json": "T", "transformer/config.json": "m"})


def test_only_what_is_the_same_is_taken_from_the_folder_beside(two):
    base, merged = two
    before = digests(merged)
    share(merged, base, ("vae", "text_encoder", "tokenizer"))
    assert shared_parts(merged) == {"vae": base / "vae"} and shared_parts(base) == {}
    assert not (merged / "vae").exists() and (merged / "text_encoder").exists()
    assert place_of(merged, "vae") == base / "vae" and place_of(merged, "transformer") == merged / "transformer"
    assert digests(merged) == before == json.loads((merged / "clvr_files.json").read_text())
    check_manifest(merged)


def test_a_copy_is_whole_again(two, tmp_path):
    base, merged = two
    before = {name: path.read_text() for name, path in files_of(merged).items()}
    share(merged, base, ("vae",))
    copy(merged, tmp_path / "elsewhere" / "copy")
    found = tmp_path / "elsewhere" / "copy"
    assert {name: path.read_text() for name, path in files_of(found).items()} == before and not shared_parts(found)
    copy(merged, tmp_path / "less", leave=("index.json",))
    assert set(before) - set(files_of(tmp_path / "less")) == {"index.json"}


def test_a_damaged_or_missing_part_is_named_with_its_folder(two):
    base, merged = two
    share(merged, base, ("vae",))
    (base / "vae" / "config.json").write_text("other")
    with pytest.raises(ValueError, match=r"vae/config.json is damaged in .*weights"):
        check_manifest(merged)
    (base / "vae" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"vae/config.json is missing in .*weights"):
        check_manifest(merged)


@pytest.mark.parametrize(
    "text",
    [
        '{"folder": "../weights", "parts": ["vae"]}',
        '{"folder": "..", "parts": ["vae"]}',
        '{"folder": "/weights", "parts": ["vae"]}',
        '{"folder": "weights", "parts": ["../vae"]}',
        '{"folder": "weights", "parts": [1]}',
        '{"folder": "weights"}',
        "[]",
        "{",
    ],
)
def test_a_file_that_leads_elsewhere_is_refused(two, text):
    _, merged = two
    (merged / FILE).write_text(text)
    with pytest.raises(BadInput, match=r"clvr_shared.json does not say which parts lie in the folder beside"):
        check_manifest(merged)
