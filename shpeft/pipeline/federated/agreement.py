"""Sites agree on one support: each proposes its best weights, and the coordinator selects by what they sum to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shpeft.backbones import WeightInfo
from shpeft.config.schema import Spread
from shpeft.errors import SelectionError
from shpeft.importance.scores import LazyTensors, Scores
from shpeft.selection.top_k import best_first

SHORTLIST = 10
"""Weights that a site proposes for each that is selected: by the hybrid, ten recover nearly all of the sum's choice."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """The best weights of a site.

    Attributes:
        positions: (m,) int64, ascending, in the concatenation of all eligible parameters.
        scores: (m,) float32, their task-specific scores; |w|, the other half of a hybrid, is known to everybody.
        images: the number of images that the site has.
    """

    positions: Tensor
    scores: Tensor
    images: int

    def check(self, eligible: int) -> None:
        """Check that a proposal is one.

        Raises:
            SelectionError: its positions are not ascending, unique and among the eligible weights, or its scores are
                not finite and at least 0.
        """
        at, scores = self.positions, self.scores
        if at.ndim != 1 or at.shape != scores.shape or not len(at) or self.images < 1:
            raise SelectionError("The proposal has no weights, or not one score for each.")
        if int(at[0]) < 0 or int(at[-1]) >= eligible or bool((at.diff() <= 0).any()):
            raise SelectionError(f"The proposed weights are not ascending, unique and below {eligible:,}.")
        if not bool(scores.isfinite().all()) or bool((scores < 0).any()):
            raise SelectionError("The proposed scores are not finite, or below 0.")


def propose(scores: Scores, k: int, images: int, spread: Spread = "none") -> Proposal:
    """Return the weights that a site proposes: ten for each of k, by its own score.

    Args:
        scores: the site's; of a hybrid, its task-specific half is sent.
        k: the number of weights that will be selected.
        images: the number of images of the site.
        spread: as for ``select``.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> proposal = propose(shpeft.estimate_importance(model, data.train, "hybrid"), 30, len(data.train))
        >>> len(proposal.positions), proposal.images
        (300, 18)
    """
    positions = best_first(scores, min(SHORTLIST * k, scores.eligible), spread)[0].sort().values
    specific = scores.halves[0] if scores.halves else scores
    parts = [
        specific.values[info.name].reshape(-1)[positions[rows] - begin]
        for info, begin, rows in _spans(scores.infos, positions)
    ]
    return Proposal(positions, torch.cat(parts).float(), images)


def pooled_scores(proposals: Sequence[Proposal], infos: tuple[WeightInfo, ...], total: int) -> Scores:
    """Return the mean task-specific score over all images of all sites; a weight counts 0 where it is not proposed.

    Args:
        proposals: of all sites, for the same base.
        infos: the eligible parameters, in the model's order.
        total: the number of weights of the backbone.

    Raises:
        SelectionError: there is no proposal, or one that ``Proposal.check`` refuses.

    Examples:
        >>> info = WeightInfo("fc.weight", (2, 3), 6, 1, "", "fc.weight")
        >>> proposals = [
        ...     Proposal(torch.tensor([1, 4]), torch.tensor([0.4, 0.8]), images=30),
        ...     Proposal(torch.tensor([4, 5]), torch.tensor([0.8, 0.4]), images=10),
        ... ]
        >>> pooled_scores(proposals, (info,), 6).values["fc.weight"]
        tensor([[0.0000, 0.3000, 0.0000],
                [0.0000, 0.8000, 0.1000]])
    """
    if not proposals:
        raise SelectionError("No site proposed any weights, so that there is nothing to select.")
    eligible = sum(info.numel for info in infos)
    for proposal in proposals:
        proposal.check(eligible)
    positions, which = torch.cat([proposal.positions for proposal in proposals]).unique(return_inverse=True)
    weighted = torch.cat([proposal.scores.double() * proposal.images for proposal in proposals])
    images = sum(proposal.images for proposal in proposals)
    means = (torch.zeros(len(positions), dtype=torch.float64).index_add_(0, which, weighted) / images).float()
    parts = {info.name: (info, begin, rows) for info, begin, rows in _spans(infos, positions)}

    def scattered(name: str) -> Tensor:
        info, begin, rows = parts[name]
        dense = torch.zeros(info.numel)
        dense[positions[rows] - begin] = means[rows]
        return dense.reshape(info.shape)

    return Scores(f"task-specific (mean of {len(proposals)} sites)", LazyTensors(parts, scattered), infos, total)


def _spans(infos: Sequence[WeightInfo], positions: Tensor) -> Iterator[tuple[WeightInfo, int, slice]]:
    """Return for each parameter where it begins in the concatenation, and which of the ascending positions it has."""
    begin = 0
    for info in infos:
        low, high = torch.searchsorted(positions, torch.tensor([begin, begin + info.numel])).tolist()
        yield info, begin, slice(low, high)
        begin += info.numel
