"""Delta files: what is written is read back to the bit, and whatever is wrong is refused before use."""

import json
import pickle

import pytest
import safetensors.torch
import torch

from shpeft.deltafile import load_delta, read_header, save_delta
from shpeft.errors import BaseMismatch, ClassMismatch, DeltaError, DeltaFormat, ShpeftError

from .conftest import assert_unchanged, state, tiny
from .test_gradients import MODELS, random_delta


@pytest.mark.parametrize("name", MODELS)
def test_round_trip(name, tmp_path):
    backbone = tiny(name)
    delta = random_delta(backbone, 120, "all")
    path = save_delta(delta, tmp_path / "d.safetensors", {"note": "é"})
    found = load_delta(path, tiny(name))
    assert torch.equal(found.values, delta.values)
    assert torch.equal(found.head.weight, delta.head.weight)
    assert torch.equal(found.head.bias, delta.head.bias)
    assert list(found.support.indices) == list(delta.support.indices)
    for key, index in delta.support.indices.items():
        assert torch.equal(found.support.indices[key], index)
    assert (found.classes, found.base, found.transform) == (delta.classes, delta.base, delta.transform)
    header = read_header(path)
    assert (header["note"], header["k"], header["total"]) == ("é", 120, backbone.count)


def test_the_same_delta_gives_the_same_bytes(tmp_path):
    files = []
    for i in range(2):
        meta = {"b": 1, "a": 2} if i else {"a": 2, "b": 1}
        files.append(save_delta(random_delta(tiny(), 99), tmp_path / f"{i}", meta).read_bytes())
    assert files[0] == files[1]


def test_a_delta_is_small(tmp_path):
    path = save_delta(random_delta(tiny(), 30), tmp_path / "d.safetensors")
    assert path.stat().st_size < 8_000


def test_other_bases_and_classes_are_refused(tmp_path):
    path = save_delta(random_delta(tiny(), 30), tmp_path / "d.safetensors")
    other = tiny()
    with torch.no_grad():
        other.parameters["norm.bias"][0] = 1
    for backbone in (other, tiny("test_resnet")):
        with pytest.raises(BaseMismatch, match=r"d\.safetensors is a delta for test_vit at 32 px"):
            load_delta(path, backbone)
    with pytest.raises(ClassMismatch):
        load_delta(path, tiny(classes=("x", "y", "z")))


def test_files_that_are_no_deltas_are_refused(tmp_path):
    backbone = tiny()
    before = state(backbone)
    bad = tmp_path / "bad.safetensors"
    contents = {
        "pickle": pickle.dumps({"values": [1, 2]}),
        "empty": b"",
        "text": b"hello " * 100,
        "weights": safetensors.torch.save({"a": torch.zeros(2)}),
        "cut": save_delta(random_delta(tiny(), 30), tmp_path / "d.safetensors").read_bytes()[:-10],
        "no keys": safetensors.torch.save({"a": torch.zeros(2)}, {"shpeft": "{}"}),
        "no object": safetensors.torch.save({"a": torch.zeros(2)}, {"shpeft": "[1]"}),
        "no json": safetensors.torch.save({"a": torch.zeros(2)}, {"shpeft": "{"}),
    }
    for content in contents.values():
        bad.write_bytes(content)
        with pytest.raises(DeltaFormat, match=r"bad\.safetensors"):
            load_delta(bad, backbone)
    with pytest.raises(DeltaFormat, match="no file"):
        load_delta(tmp_path / "nothing", backbone)
    with pytest.raises(DeltaFormat, match="no file"):
        load_delta(tmp_path, backbone)
    torch.save({"values": torch.zeros(3)}, bad)
    with pytest.raises(DeltaFormat, match="never loaded"):
        load_delta(bad, backbone)
    assert_unchanged(backbone, before)


NAME = "blocks.0.mlp.fc1.weight"


def _nan(tensors):
    tensors[f"{NAME}/values"][0] = float("nan")


def _duplicate(tensors):
    tensors[f"{NAME}/indices"][1] = tensors[f"{NAME}/indices"][0]


def _descending(tensors):
    tensors[f"{NAME}/indices"] = tensors[f"{NAME}/indices"].flip(0).contiguous()


def _beyond(tensors):
    tensors[f"{NAME}/indices"][-1] = 10**6


def _negative(tensors):
    tensors[f"{NAME}/indices"][0] = -1


def _int64(tensors):
    tensors[f"{NAME}/indices"] = tensors[f"{NAME}/indices"].long()


def _half(tensors):
    tensors[f"{NAME}/values"] = tensors[f"{NAME}/values"].half()


def _no_values(tensors):
    del tensors[f"{NAME}/values"]


def _no_indices(tensors):
    del tensors[f"{NAME}/indices"]


def _stranger(tensors):
    tensors["blocks.99.x/indices"] = torch.zeros(1, dtype=torch.int32)


def _no_head(tensors):
    del tensors["head/bias"]


def _wide_head(tensors):
    tensors["head/weight"] = torch.zeros(3, 65)


DAMAGES = [
    _nan, _duplicate, _descending, _beyond, _negative, _int64, _half, _no_values, _no_indices, _stranger, _no_head,
    _wide_head,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_every_damage_is_found(damage, tmp_path):
    backbone = tiny()
    before = state(backbone)
    path = save_delta(random_delta(backbone, 300), tmp_path / "d.safetensors")
    tensors = safetensors.torch.load_file(path)
    assert tensors[f"{NAME}/indices"].numel() > 2
    damage(tensors)
    path.write_bytes(safetensors.torch.save(tensors, {"shpeft": json.dumps(read_header(path))}))
    with pytest.raises(DeltaFormat, match=r"not a valid shpeft\.delta/1"):
        load_delta(path, backbone)
    assert_unchanged(backbone, before)


def test_later_formats_are_named(tmp_path):
    path = save_delta(random_delta(tiny(), 3), tmp_path / "d.safetensors")
    header = {**read_header(path), "format": "shpeft.delta/9"}
    path.write_bytes(safetensors.torch.save(safetensors.torch.load_file(path), {"shpeft": json.dumps(header)}))
    with pytest.raises(DeltaFormat, match=r"shpeft\.delta/9"):
        load_delta(path, tiny())


def test_values_that_are_not_finite_are_not_saved(tmp_path):
    delta = random_delta(tiny(), 3)
    delta.values[1] = float("inf")
    with pytest.raises(DeltaError, match="not finite"):
        save_delta(delta, tmp_path / "d.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_leaves_nothing(tmp_path):
    with pytest.raises(ShpeftError, match="cannot be written"):
        save_delta(random_delta(tiny(), 3), tmp_path / "nowhere" / "d.safetensors")
    assert list(tmp_path.iterdir()) == []
