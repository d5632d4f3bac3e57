"""4-bit matrices: unpacking a packed file gives the rounded weights, to the bit."""

import pytest
import torch

from shpeft.backbones.int4 import GROUP, LEVELS, pack, packable, quantize, rounded, unpack


def test_unpacking_gives_the_rounded_weights_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        "a.weight": torch.randn(5, 2 * GROUP, generator=generator),
        "b.bias": torch.randn(7, generator=generator).half(),
        "conv.weight": torch.randn(3, 2, 4, 4, generator=generator).half(),
        "odd.weight": torch.randn(2, GROUP + 1, generator=generator).half(),
    }
    back = unpack(pack(weights))
    assert set(back) == set(weights)
    assert torch.equal(back["a.weight"], rounded(weights["a.weight"]))
    assert all(torch.equal(back[name], weights[name]) for name in ("b.bias", "conv.weight", "odd.weight"))


def test_a_matrix_takes_four_bits_a_weight_and_sixteen_a_group() -> None:
    packed = pack({"w": torch.randn(8, 4 * GROUP)})
    assert sum(tensor.nbytes for tensor in packed.values()) == 8 * 4 * (GROUP // 2 + 2)


def test_rounding_twice_changes_no_bit() -> None:
    weight = rounded(torch.randn(6, GROUP, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(rounded(weight), weight)


def test_groups_round_to_the_nearest_level_and_clip_only_where_that_helps() -> None:
    weight = torch.randn(4, GROUP, generator=torch.Generator().manual_seed(2))
    codes, scales = quantize(weight)
    assert codes.abs().max() <= LEVELS
    plain = (weight.abs().amax(1, keepdim=True) / LEVELS).half().float()
    naive = (weight / plain).round() * plain
    assert ((rounded(weight) - weight).norm(dim=1) <= (naive - weight).norm(dim=1)).all()
    inside = (weight[:, None] / scales).abs() <= LEVELS
    assert ((codes * scales - weight[:, None]).abs()[inside] <= scales.expand_as(codes)[inside] / 2 + 1e-6).all()


@pytest.mark.parametrize("weight", [torch.zeros(2, GROUP), torch.zeros(3)])
def test_zeros_stay_zeros(weight: torch.Tensor) -> None:
    assert torch.equal(unpack(pack({"w": weight}))["w"].float(), weight)
    assert packable(weight) == (weight.ndim == 2)
