"""What is believed of a file, and what is not."""

from __future__ import annotations

import json
import os
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors import safe_open

from clvr_core.errors import BadInput
from clvr_core.weights.checkpoint import HEADER_LIMIT, File, open_checkpoint
from tests.merge import klein


def entry(begin=0, end=8, shape=(4,), dtype="BF16"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


HOSTILE = {
    "header longer than the file": ({"a": entry()}, b"\0" * 8, 10_000, "truncated or not a safetensors file"),
    "header of a terabyte": ({"a": entry()}, b"\0" * 8, 1 << 40, "truncated or not a safetensors file"),
    "header of 2^63 bytes": ({"a": entry()}, b"\0" * 8, 1 << 63, "truncated or not a safetensors file"),
    "header of no bytes": ({"a": entry()}, b"\0" * 8, 0, "header of 0 bytes"),
    "not JSON": ("nonsense", b"", None, "damaged header"),
    "not UTF-8": (b'{"a\xff":1}', b"", None, "damaged header"),
    "a list": ("[]", b"", None, "no JSON object"),
    "NaN in JSON": ('{"a":NaN}', b"", None, "damaged header"),
    "deep nesting": ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", b"", None, "damaged header"),
    "a million brackets": ("[" + "[]," * 1_000_001 + "[]]", b"", None, "brackets"),
    "duplicate key": (
        json.dumps({"a": entry(), "b": entry()}).replace('"b"', '"a"'),
        b"\0" * 8,
        None,
        "'a' stands in it twice",
    ),
    "overlap": ({"a": entry(), "b": entry(4, 12)}, b"\0" * 12, None, "tensor b overlaps"),
    "the same bytes twice": ({"a": entry(), "b": entry()}, b"\0" * 8, None, "tensor b overlaps"),
    "a gap": ({"a": entry(), "b": entry(16, 24)}, b"\0" * 24, None, "tensor b leaves a gap"),
    "too many bytes": ({"a": entry()}, b"\0" * 72, None, "64 bytes too many"),
    "truncated data": (
        {"a": entry()},
        b"\0" * 4,
        None,
        "'a' has offsets 0 to 8 in 4 bytes of data: the file is truncated",
    ),
    "offsets out of range": ({"a": entry(8, 1 << 50)}, b"\0" * 8, None, "'a' has offsets 8 to"),
    "offsets reversed": ({"a": entry(8, 0)}, b"\0" * 8, None, "'a' has offsets 8 to 0"),
    "offsets as texts": (
        {"a": {"dtype": "BF16", "shape": [4], "data_offsets": ["0", "8"]}},
        b"\0" * 8,
        None,
        "not lists of sizes",
    ),
    "shape and bytes differ": ({"a": entry(shape=(5,))}, b"\0" * 8, None, "'a' has shape [5] in BF16, 10 bytes, but 8"),
    "shape overflows": ({"a": entry(shape=(1 << 62, 1 << 62))}, b"\0" * 8, None, "but 8 bytes of data"),
    "negative size": ({"a": entry(shape=(-4,))}, b"\0" * 8, None, "not lists of sizes"),
    "size with a point": ({"a": entry(shape=(4.0,))}, b"\0" * 8, None, "not lists of sizes"),
    "size true": ({"a": entry(shape=(True, 4))}, b"\0" * 8, None, "not lists of sizes"),
    "unknown dtype": ({"a": entry(dtype="Q4_K")}, b"\0" * 8, None, "'a' has the unknown dtype 'Q4_K'"),
    "a field missing": ({"a": {"dtype": "BF16", "shape": [4]}}, b"\0" * 8, None, "not described"),
    "a field too many": ({"a": entry() | {"x": 1}}, b"\0" * 8, None, "not described"),
    "metadata of numbers": ({"__metadata__": {"x": 1}, "a": entry()}, b"\0" * 8, None, "damaged metadata"),
    "a name with NUL": ({"../\0x": entry()}, b"\0" * 8, None, "a name that no model has"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_damaged_or_hostile_file_is_refused_in_one_sentence(tmp_path, case):
    header, data, length, words = HOSTILE[case]
    path = klein.raw_file(tmp_path / "x.safetensors", header, data, length)
    with pytest.raises(BadInput) as caught:
        File(path)
    message = str(caught.value)
    assert words in message and str(path) in message and "\n" not in message
    assert ";" in message  # what to do about it


@pytest.mark.parametrize("size", [0, 7])
def test_a_file_too_short_for_a_header_is_refused(tmp_path, size):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\0" * size)
    with pytest.raises(BadInput, match=f"it has {size} bytes"):
        File(path)


def test_a_header_of_a_hundred_megabytes_or_a_terabyte_allocates_nothing(tmp_path):
    large, huge = tmp_path / "large.safetensors", tmp_path / "huge.safetensors"
    for path, length in ((large, 100_000_000), (huge, 1 << 40)):
        path.write_bytes(length.to_bytes(8, "little"))
        os.truncate(path, length + 16)  # sparse: nothing of it is on the disk
    tracemalloc.start()
    try:
        for path in (large, huge):
            with pytest.raises(BadInput, match=f"at most {HEADER_LIMIT} are read"):
                File(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_pickles_and_gguf_are_refused_by_name(tmp_path):
    zipped, plain, gguf = (tmp_path / f"{name}.safetensors" for name in ("zipped", "plain", "gguf"))
    torch.save({"a": torch.zeros(2)}, zipped)
    plain.write_bytes(pickle.dumps({"a": 1}, protocol=4))
    gguf.write_bytes(b"GGUF" + b"\0" * 100)
    for path in (zipped, plain):
        with pytest.raises(BadInput, match="a PyTorch pickle, not a safetensors file"):
            File(path)
    with pytest.raises(BadInput, match="GGUF file, whose quantised weights cannot be merged; use the bf16"):
        File(gguf)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "<!DOCTYPE html><html><head><title>Sign in</title>",
            "is a web page and not weights: the server asked for a login",
        ),
        ("\n  <?xml version='1.0'?>", "is a web page"),
        (
            "version https:" + "//git-lfs.example/spec/v1\noid sha256:0\nsize 7751105712\n",
            "is a pointer of git-lfs and not the weights, .* git lfs pull",
        ),
        ('{"error":"Unauthorized"}', r"""is a text \('\{"error":"Unauthorized"\}'\) and not weights"""),
    ],
)
def test_a_text_in_place_of_weights_is_called_what_it_is(tmp_path, text, words):
    path = tmp_path / "x.safetensors"
    path.write_text(text)
    with pytest.raises(BadInput, match=words) as caught:
        File(path)
    assert "bytes" not in str(caught.value)


def test_one_shard_is_not_the_model(tmp_path):
    index = sharded(tmp_path / "model", {f"{name}.weight": torch.ones(2) for name in "abc"})
    shard = sorted(index.parent.glob("*-of-*.safetensors"))[0]
    with pytest.raises(BadInput, match=rf"is one shard of \d and not the whole model; give {index.name}"):
        open_checkpoint(shard)
    alone = shard.rename(tmp_path / "other-00001-of-00004.safetensors")
    with pytest.raises(BadInput, match=r"is one shard of 4 .*; give the \.index\.json beside it"):
        open_checkpoint(alone)
    open_checkpoint(alone.rename(tmp_path / "x-00001-of-00001.safetensors")).close()


def test_a_circle_of_links_a_missing_file_and_what_is_no_file_are_refused(tmp_path):
    (tmp_path / "a.safetensors").symlink_to(tmp_path / "b.safetensors")
    (tmp_path / "b.safetensors").symlink_to(tmp_path / "a.safetensors")
    with pytest.raises(BadInput, match="symbolic links lead in a circle"):
        open_checkpoint(tmp_path / "a.safetensors")
    with pytest.raises(BadInput, match="No such file"):
        open_checkpoint(tmp_path / "c.safetensors")
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(BadInput, match="is not a file"):
        open_checkpoint(tmp_path / "pipe.safetensors")


def test_what_safetensors_writes_is_read(tmp_path):
    tensors = {
        "b": torch.arange(6.0).view(2, 3),
        "a": torch.ones(3, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 4),
        "one": torch.tensor(2.0),
    }
    file = File(klein.save(tmp_path / "x.safetensors", tensors, {"format": "pt"}))
    assert file.metadata == {"format": "pt"}
    for name, value in tensors.items():
        found = file.tensors[name]
        assert (
            found.shape == tuple(value.shape)
            and bytes(found.read()) == value.reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    file.close()


def test_a_file_cut_while_it_is_read_is_an_error_not_a_crash(tmp_path):
    path = klein.save(tmp_path / "x.safetensors", {"a": torch.ones(1000)})
    file = File(path)
    os.truncate(path, 1000)
    assert file.changed
    with pytest.raises(BadInput, match="became shorter while it was read"):
        file.tensors["a"].read()
    file.close()


def sharded(folder, tensors):
    folder.mkdir(parents=True)
    names = list(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        klein.save(folder / shard, {name: tensors[name] for name in part})
        weight_map |= dict.fromkeys(part, shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def test_shards_are_one_checkpoint_by_index_by_folder_or_by_pipeline(tmp_path):
    tensors = klein.weights()
    index = sharded(tmp_path / "pipe" / "transformer", tensors)
    for path in (index, index.parent, tmp_path / "pipe"):
        found = open_checkpoint(path)
        assert found.tensors.keys() == tensors.keys() and len(found.files) == 2
        found.close()


def test_shards_that_do_not_fit_their_index_are_refused(tmp_path):
    index = sharded(tmp_path / "x", {"a": torch.ones(2), "b": torch.ones(2), "c": torch.ones(2)})
    found = json.loads(index.read_text())

    def said(**weight_map):
        index.write_text(json.dumps({"weight_map": found["weight_map"] | weight_map}))
        with pytest.raises(BadInput) as caught:
            open_checkpoint(index)
        return str(caught.value)

    one, two = dict.fromkeys(found["weight_map"].values())
    assert f"{one} lacks d" in said(d=one)
    assert "by model.safetensors.index.json belongs" in said(a=two)
    assert "no .safetensors in its own folder" in said(a="../x/" + one)
    assert "no .safetensors in its own folder" in said(a="/etc/passwd")
    index.write_text('{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}')
    with pytest.raises(BadInput, match="stands in it twice"):
        open_checkpoint(index)


def test_a_folder_with_two_candidates_or_none_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"holds no \.safetensors"):
        open_checkpoint(tmp_path)
    for name in ("a", "b"):
        klein.save(tmp_path / f"{name}.safetensors", {"a": torch.ones(2)})
    with pytest.raises(BadInput, match=r"2 candidates \(a\.safetensors, b\.safetensors\)"):
        open_checkpoint(tmp_path)


def test_no_damage_to_a_header_gets_past_more_than_safetensors_lets_through(tmp_path):
    """Whatever happens to its bytes, a file is refused in words or read as safetensors reads it."""
    whole = klein.save(
        tmp_path / "x.safetensors",
        {"a": torch.arange(4.0), "b": torch.ones(2, 3, dtype=torch.bfloat16)},
        {"format": "pt"},
    ).read_bytes()
    random, path = np.random.default_rng(0), tmp_path / "y.safetensors"
    header = 8 + int.from_bytes(whole[:8], "little")
    accepted = 0
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            place = int(random.integers(header))
            data[place] = (
                random.choice(list(b'0123456789,:"[]{}-.eFU ')) if random.random() < 0.8 else random.integers(256)
            )
        path.write_bytes(data)
        try:
            file = File(path)
        except BadInput as error:
            assert "\n" not in str(error)
            continue
        with safe_open(path, "pt") as theirs:
            assert set(theirs.keys()) == file.tensors.keys()
            for name, tensor in file.tensors.items():
                assert theirs.get_slice(name).get_shape() == list(tensor.shape)
        file.close()
        accepted += 1
    assert accepted > 20, "some damage is none: to names and to metadata"
