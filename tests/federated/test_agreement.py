"""Sites agree on nearly the support that the sum of all their scores selects."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from shpeft.backbones import WeightInfo
from shpeft.errors import SelectionError
from shpeft.importance.scores import Scores, hybrid
from shpeft.pipeline.federated import Proposal, pooled_scores, propose
from shpeft.selection.top_k import select

SHAPES = {"a.weight": (60, 50), "b.weight": (40, 60), "c.bias": (80,)}
INFOS = tuple(WeightInfo(n, s, torch.Size(s).numel(), i, "", n) for i, (n, s) in enumerate(SHAPES.items()))
TOTAL = sum(info.numel for info in INFOS)


def scores(values: dict[str, Tensor]) -> Scores:
    return Scores("any", values, INFOS, TOTAL)


def drawn(seed: int) -> dict[str, Tensor]:
    """Return heavy-tailed scores, as gradients are."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).exp() for name, shape in SHAPES.items()}


def mean(parts: list[dict[str, Tensor]], images: list[int]) -> dict[str, Tensor]:
    total = sum(images)
    return {
        name: sum((part[name].double() * n for part, n in zip(parts, images, strict=True)), torch.zeros(1)).float()
        / total
        for name in SHAPES
    }


def chosen(support: object) -> set[tuple[str, int]]:
    return {(name, at) for name, index in support.indices.items() for at in index.tolist()}  # type: ignore[attr-defined]


@given(st.integers(0, 10**6), st.sampled_from(["none", "row"]))
def test_a_single_site_gets_its_own_selection(seed: int, spread: str) -> None:
    own = hybrid(scores(drawn(seed)), scores(drawn(seed + 1)))
    proposal = propose(own, 30, 7, spread)  # type: ignore[arg-type]
    pooled = hybrid(pooled_scores([proposal], INFOS, TOTAL), own.halves[1])  # type: ignore[index]
    agreed, alone = select(pooled, 30, spread), select(own, 30, spread)  # type: ignore[arg-type]
    assert chosen(agreed) == chosen(alone)
    assert agreed.counts() == alone.counts()


def test_the_shortlists_by_the_hybrid_recover_the_choice_of_the_whole_sum() -> None:
    common, images = drawn(0), [50, 80, 120, 30, 200, 20]
    sites = [{name: common[name] * part[name] ** 0.5 for name in SHAPES} for part in map(drawn, range(1, 7))]
    magnitude = scores(drawn(9))
    whole = chosen(select(hybrid(scores(mean(sites, images)), magnitude), 50))
    by_hybrid = [propose(hybrid(scores(s), magnitude), 50, n) for s, n in zip(sites, images, strict=True)]
    by_gradient = [propose(scores(s), 50, n) for s, n in zip(sites, images, strict=True)]
    both = [
        len(whole & chosen(select(hybrid(pooled_scores(proposals, INFOS, TOTAL), magnitude), 50)))
        for proposals in (by_hybrid, by_gradient)
    ]
    assert both[0] >= 49
    assert both[0] > both[1]


def test_more_images_count_more() -> None:
    first, second = torch.tensor([3]), torch.tensor([5])
    proposals = [Proposal(at, torch.tensor([1.0]), images) for at, images in ((first, 10), (second, 11))]
    assert select(pooled_scores(proposals, INFOS, TOTAL), 1).indices["a.weight"].tolist() == [5]


@pytest.mark.parametrize(
    ("positions", "values"),
    [
        ([3, 3], [1.0, 1.0]),
        ([4, 3], [1.0, 1.0]),
        ([-1, 3], [1.0, 1.0]),
        ([3, TOTAL], [1.0, 1.0]),
        ([3, 4], [1.0, float("nan")]),
        ([3, 4], [1.0, -1.0]),
        ([3, 4], [1.0]),
        ([], []),
    ],
)
def test_a_proposal_that_is_none_is_refused(positions: list[int], values: list[float]) -> None:
    proposal = Proposal(torch.tensor(positions, dtype=torch.int64), torch.tensor(values), 3)
    with pytest.raises(SelectionError):
        pooled_scores([proposal], INFOS, TOTAL)


def test_without_proposals_there_is_nothing_to_select() -> None:
    with pytest.raises(SelectionError, match="No site"):
        pooled_scores([], INFOS, TOTAL)
