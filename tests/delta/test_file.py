"""Delta files: a round trip preserves every bit, and damaged files are refused before use."""

import json
import math
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

from shpeft.backbones import Backbone
from shpeft.config.schema import RunConfig
from shpeft.delta.file import PAGE, load_delta, read_header, save_delta
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.errors import BaseMismatch, ClassMismatch, DeltaError, DeltaFormat, ShpeftError
from shpeft.linear_probe import Head
from shpeft.selection.top_k import Support
from shpeft.support.environment import environment
from tests.conftest import CLASSES, assert_unchanged, state, tiny
from tests.helpers.deltas import MODELS, random_delta


@pytest.mark.parametrize("name", MODELS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    backbone = tiny(name)
    delta = random_delta(backbone, 120, "all")
    path = save_delta(delta, tmp_path / "d.safetensors", {"note": "é"})
    actual = load_delta(path, tiny(name))
    assert torch.equal(actual.values, delta.values)
    assert torch.equal(actual.head.weight, delta.head.weight)
    assert torch.equal(actual.head.bias, delta.head.bias)
    assert list(actual.support.indices) == list(delta.support.indices)
    for key, index in delta.support.indices.items():
        assert torch.equal(actual.support.indices[key], index)
    assert (actual.classes, actual.base, actual.transform) == (delta.classes, delta.base, delta.transform)
    header = read_header(path)
    assert (header["note"], header["k"], header["total"]) == ("é", 120, backbone.weight_count)


class Pages(torch.nn.Module):
    """Parameters that end before, on and after a page edge, and one that spans several pages."""

    def __init__(self) -> None:
        super().__init__()
        for name, shape in {"a": (PAGE - 1,), "b": (1,), "c": (300, 701), "d": (2, PAGE), "e": (3, 1, 5)}.items():
            setattr(self, name, torch.nn.Parameter(torch.zeros(shape)))
        self.head = torch.nn.Linear(2, 3)

    def get_classifier(self) -> torch.nn.Module:
        return self.head


PAGED = Backbone("pages", Pages(), CLASSES, tiny().transform, "zeros")


@st.composite
def deltas(draw: st.DrawFn) -> SparseDelta:
    """Draw a non-empty support of ``PAGED``, with page edges preferred, and finite float32 values."""
    infos = PAGED.weight_infos()
    chosen = sorted(draw(st.sets(st.sampled_from(range(len(infos))), min_size=1)))
    indices = {}
    for info in (infos[i] for i in chosen):
        edges = [x for x in (0, PAGE - 2, PAGE - 1, PAGE, info.numel - 1) if x < info.numel]
        index = st.integers(0, info.numel - 1) | st.sampled_from(edges)
        indices[info.name] = torch.tensor(sorted(draw(st.sets(index, min_size=1, max_size=20))))
    support = Support(indices, {info.name: info.shape for info in infos if info.name in indices}, PAGED.weight_count)
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    values = torch.tensor(draw(st.lists(finite, min_size=support.k, max_size=support.k)))
    head = Head(torch.tensor(draw(st.lists(finite, min_size=6, max_size=6))).view(3, 2), torch.zeros(3))
    return SparseDelta(support, values, head, CLASSES, "pages", "zeros", PAGED.transform, PAGED.fingerprint)


@given(delta=deltas())
def test_any_delta_survives_a_round_trip_bit_for_bit(
    delta: SparseDelta, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = save_delta(delta, tmp_path_factory.getbasetemp() / "any.safetensors")
    actual = load_delta(path, PAGED)
    assert list(actual.support.indices) == list(delta.support.indices)
    for key, index in delta.support.indices.items():
        assert torch.equal(actual.support.indices[key], index)
        assert actual.support.indices[key].dtype == torch.int64
    assert (actual.support.shapes, actual.support.total) == (delta.support.shapes, delta.support.total)
    for ours, theirs in ((actual.values, delta.values), (actual.head.weight, delta.head.weight)):
        assert torch.equal(ours.view(torch.int32), theirs.view(torch.int32))  # the sign of zero too
    assert save_delta(actual, path.with_name("again")).read_bytes() == path.read_bytes()


def test_a_full_page_is_counted(tmp_path: Path) -> None:
    """Count 65,536 weights in one page, one more than 16 bits can represent."""
    support = Support({"d": torch.arange(2 * PAGE)}, {"d": (2, PAGE)}, PAGED.weight_count)
    path = save_delta(SparseDelta.zeros(PAGED, support), tmp_path / "full")
    assert torch.equal(load_delta(path, PAGED).support.indices["d"], torch.arange(2 * PAGE))


def test_the_same_delta_gives_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for i in range(2):
        meta = {"b": 1, "a": 2} if i else {"a": 2, "b": 1}
        files.append(save_delta(random_delta(tiny(), 99), tmp_path / f"{i}", meta).read_bytes())
    assert files[0] == files[1]


def test_vit_base_at_a_ten_thousandth_stays_below_70_kb(tmp_path: Path) -> None:
    with torch.device("meta"):
        module = timm.create_model("vit_base_patch16_224", num_classes=3)
    backbone = Backbone("vit_base_patch16_224", module, CLASSES, tiny().transform, "timm, from the model hub")
    matrices, k, rng = backbone.weight_infos("matrices"), 8_580, np.random.default_rng(0)
    assert (len(matrices), round(1e-4 * backbone.weight_count)) == (48, k)
    line = sum(info.numel for info in matrices)
    chosen, offset, indices = np.sort(rng.choice(line, k, replace=False)), 0, {}
    for info in matrices:
        within = chosen[(chosen >= offset) & (chosen < offset + info.numel)] - offset
        indices[info.name] = torch.from_numpy(within)
        offset += info.numel
    head = Head(torch.randn(3, 768), torch.randn(3))
    delta = SparseDelta(
        Support(indices, {info.name: info.shape for info in matrices}, backbone.weight_count),
        torch.from_numpy(rng.normal(size=k).astype(np.float32)),
        head,
        *(CLASSES, backbone.name, backbone.weights, backbone.transform, "0" * 64),
    )
    metadata = {"config": RunConfig().model_dump(mode="json"), "versions": environment()["libraries"]}
    metadata["dataset"] = {"name": "a folder", "fingerprint": "0" * 64, "note": "x" * 850}
    path = save_delta(delta, tmp_path / "base.safetensors", metadata)
    header = {key: value for key, value in read_header(path).items() if key != "parameters"}
    assert len(json.dumps(header)) >= 2_000
    assert path.stat().st_size - 4 * (head.weight.numel() + head.bias.numel()) <= 70_000


def test_other_bases_are_refused(tmp_path: Path) -> None:
    path = save_delta(random_delta(tiny(), 30), tmp_path / "d.safetensors")
    other = tiny()
    with torch.no_grad():
        other.parameters["norm.bias"][0] = 1
    for backbone in (other, tiny("test_resnet")):
        with pytest.raises(BaseMismatch, match=r"d\.safetensors is a delta for test_vit at 32 px"):
            load_delta(path, backbone)


@pytest.mark.parametrize("classes", [("x", "y", "z"), ("x", "y")])
def test_a_delta_keeps_its_classes_and_is_not_applied_to_others(classes: tuple[str, ...], tmp_path: Path) -> None:
    delta = random_delta(tiny(), 30)
    backbone = tiny()
    backbone.replace_head(torch.nn.Linear(64, len(classes)), classes)
    before = state(backbone)
    actual = load_delta(save_delta(delta, tmp_path / "d.safetensors"), backbone)
    assert actual.classes == CLASSES
    assert torch.equal(actual.head.weight, delta.head.weight)
    with pytest.raises(ClassMismatch), actual.applied(backbone):
        pass
    assert_unchanged(backbone, before)


def test_files_that_are_not_deltas_are_refused(tmp_path: Path) -> None:
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


def write(path: Path, tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> None:
    path.write_bytes(safetensors.torch.save(tensors, {"shpeft": json.dumps(header)}))


Damage = Callable[[dict[str, torch.Tensor], dict[str, Any]], object]
DAMAGES: dict[str, Damage] = {
    "other k": lambda t, h: h.update(k=299),
    "negative k": lambda t, h: h.update(k=-1),
    "k as text": lambda t, h: h.update(k="300"),
    "other total": lambda t, h: h.update(total=7),
    "a class less": lambda t, h: h.update(classes=["a", "b"]),
    "classes that are no names": lambda t, h: h.update(classes=[1, 2, 3]),
    "no parameters": lambda t, h: h.pop("parameters"),
    "empty parameters": lambda t, h: h.update(parameters=[]),
    "odd parameters": lambda t, h: h.update(parameters=[3, "x", ["y"], [["z"], 1]]),
    "unknown parameter": lambda t, h: h["parameters"][0].__setitem__(0, "blocks.99.attn.qkv.weight"),
    "the head as parameter": lambda t, h: h["parameters"].__setitem__(0, ["head.weight", [3, 64]]),
    "transposed": lambda t, h: h["parameters"][0][1].reverse(),
    "parameter twice": lambda t, h: h["parameters"].append(h["parameters"][0]),
    "parameter without weights": lambda t, h: h["parameters"].append(["norm.bias", [64]]),
    "odd transform": lambda t, h: h.update(transform={"size": "x"}),
    "no size": lambda t, h: h["transform"].pop("size"),
    "nan": lambda t, h: t["values"][:1].fill_(torch.nan),
    "half": lambda t, h: t.update(values=t["values"].half()),
    "short values": lambda t, h: t.update(values=t["values"][:-1].clone()),
    "values in two dimensions": lambda t, h: t.update(values=t["values"][None]),
    "no values": lambda t, h: t.pop("values"),
    "stranger": lambda t, h: t.update({"blocks.0.mlp.fc1.weight/values": torch.zeros(1)}),
    "no head": lambda t, h: t.pop("head/bias"),
    "infinite head": lambda t, h: t["head/bias"][:1].fill_(torch.inf),
    "wide head": lambda t, h: t.update({"head/weight": torch.zeros(3, 65)}),
    "duplicate": lambda t, h: t["low"].__setitem__(1, int(t["low"][0])),
    "descending": lambda t, h: t.update(low=t["low"].long().flip(0).to(torch.uint16)),
    "just past the end": lambda t, h: t["low"].__setitem__(-1, sum(math.prod(s) for _, s in h["parameters"]) % PAGE),
    "far past the end": lambda t, h: t["low"].__setitem__(-1, PAGE - 1),
    "wider low": lambda t, h: t.update(low=t["low"].to(torch.int32)),
    "wider pages": lambda t, h: t.update(pages=t["pages"].long()),
    "a page more": lambda t, h: t.update(pages=torch.cat([t["pages"], torch.zeros(1, dtype=torch.int32)])),
    "uncounted": lambda t, h: t["pages"][:1].add_(1),
    "huge counts": lambda t, h: t["pages"].fill_(2**31 - 1),
    "negative count": lambda t, h: t["pages"][:2].copy_(torch.tensor([int(t["pages"][:2].sum()) + 1, -1])),
    "in another page": lambda t, h: t["pages"][:2].add_(torch.tensor([-1, 1], dtype=torch.int32)),
    "nothing selected": lambda t, h: (
        t.update({name: t[name][:0].clone() for name in ("values", "low")}, pages=0 * t["pages"]),
        h.update(k=0),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_every_damage_is_refused(damage: Damage, tmp_path: Path) -> None:
    backbone = tiny()
    before = state(backbone)
    path = save_delta(random_delta(backbone, 300), tmp_path / "d.safetensors")
    tensors, header = safetensors.torch.load_file(path), read_header(path)
    write(path, tensors, header)
    load_delta(path, backbone)  # whole
    damage(tensors, header)
    write(path, tensors, header)
    with pytest.raises(DeltaFormat, match=r"d\.safetensors is not a valid shpeft\.delta/2 file"):
        load_delta(path, backbone)
    assert_unchanged(backbone, before)


def test_a_changed_byte_is_refused_or_read_but_never_crashes(tmp_path: Path) -> None:
    backbone = tiny()
    path = save_delta(random_delta(backbone, 40), tmp_path / "d.safetensors")
    whole = path.read_bytes()
    header_size = 8 + struct.unpack("<Q", whole[:8])[0]
    rng = np.random.default_rng(0)
    for at in rng.integers(8, header_size, 300):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            load_delta(path, backbone)
        except (DeltaFormat, BaseMismatch):
            continue


@pytest.mark.parametrize("actual", ["shpeft.delta/1", "shpeft.delta/9"])
def test_an_unknown_format_error_names_both_formats(actual: str, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    write(path, {"blocks.0.attn.qkv.weight/values": torch.zeros(1)}, {"format": actual})
    with pytest.raises(DeltaFormat, match=rf"has format '{actual}'; .* reads 'shpeft\.delta/2'"):
        load_delta(path, tiny())


def test_values_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    infinite, overflowing, head = (random_delta(tiny(), 3) for _ in range(3))
    infinite.values[1] = float("inf")
    overflowing.values = torch.full((3,), 1e300, dtype=torch.float64)
    head.head.bias[0] = float("nan")
    for delta in (infinite, overflowing, head):
        with pytest.raises(DeltaError, match="not finite"):
            save_delta(delta, tmp_path / "d.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_saving_into_a_missing_folder_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ShpeftError, match="cannot be written"):
        save_delta(random_delta(tiny(), 3), tmp_path / "nowhere" / "d.safetensors")
    assert list(tmp_path.iterdir()) == []
