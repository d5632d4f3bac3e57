"""Importance: the equations over a model and training images, one score a weight. The model is left as it was."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from shpeft import equations
from shpeft.backbones import Backbone, WeightInfo
from shpeft.datasets import Split
from shpeft.errors import SelectionError, did_you_mean
from shpeft.feed import Feed
from shpeft.probe import Head
from shpeft.progress import Progress, silent
from shpeft.scoring import EXPECTATIONS, Expectation, Pass, Tensors, input_norms, mean_gradient

SCORES = ("hybrid", "gradient", "fisher", "magnitude", "wanda", "random")
FORMULAS = ("product", "sum", "quota")


@dataclass(frozen=True)
class Scores:
    """One score for each eligible weight; larger is more important.

    Attributes:
        name: what the score is, for people, e.g. ``hybrid product (l1)``.
        values: for each parameter its scores, float32, in the parameter's shape. Empty for the quota hybrid, which is
            a rule over its two halves and not a number.
        infos: the eligible parameters, in the model's order: ties are broken in this order.
        total: how many weights the whole backbone has, which a budget's share refers to.
        halves: the task-specific and the task-agnostic score that a hybrid joins.
        lam: λ, the agnostic half's share.
    """

    name: str
    values: dict[str, Tensor]
    infos: tuple[WeightInfo, ...]
    total: int
    halves: tuple["Scores", "Scores"] | None = None
    lam: float = 0.5

    @property
    def eligible(self) -> int:
        """How many weights may be selected."""
        return sum(info.numel for info in self.infos)


def estimate_importance(
    backbone: Backbone,
    split: Split,
    score: str = "hybrid",
    *,
    formula: str = "product",
    norm: equations.Norm = "l1",
    lam: float = 0.5,
    normaliser: equations.Normaliser = "mean",
    scope: str = "matrices",
    images: int = 256,
    batch_size: int = 16,
    expectation: Expectation = "all",
    seed: int = 0,
    head: Head | None = None,
    feed: Feed | None = None,
    progress: Progress = silent,
) -> Scores:
    """Score every eligible weight; see :mod:`shpeft.equations` for the formulas.

    Args:
        split: the training images; a seeded, shuffled choice of at most ``images`` of them is used.
        score: ``hybrid``, ``gradient`` (Ē|g|), ``fisher`` (Ē g²), ``magnitude``, ``wanda`` or ``random``.
        formula: how the hybrid joins its halves: ``product``, ``sum`` or ``quota``.
        norm: the L1 or L2 form of magnitude and of the hybrid's halves.
        expectation: with ``all``, g is the gradient of the mean loss of all images: what they share counts, and what
            they pull to opposite sides cancels. ``batch`` is our reading of the paper: Ē is the mean over batches, with
            g the gradient of a batch's mean loss. ``image`` is the mean over images, with g the gradient of one
            image's: then Ē g² is the diagonal of the empirical Fisher information.
        head: the classifier under which gradients are taken; a linear probe makes the gradients mean something. None:
            the backbone's present head.
        feed: how the backbone gets its images; None: each image through the whole backbone.

    Raises:
        SelectionError: an unknown score, formula or expectation.
    """
    if score not in SCORES:
        raise SelectionError(f"There is no score {score!r}. {did_you_mean(score, SCORES)}")
    if formula not in FORMULAS:
        raise SelectionError(f"There is no hybrid formula {formula!r}. {did_you_mean(formula, FORMULAS)}")
    if expectation not in EXPECTATIONS:
        raise SelectionError(f"There is no expectation {expectation!r}. {did_you_mean(expectation, EXPECTATIONS)}")
    infos = backbone.weight_infos(scope)
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:images].tolist()
    over = Pass(feed or Feed(backbone), split, order, batch_size, progress)

    def scores(name: str, values: Tensors, halves: tuple[Scores, Scores] | None = None) -> Scores:
        return Scores(name, values, infos, backbone.count, halves, lam)

    if score == "random":
        generator = torch.Generator().manual_seed(seed)
        return scores("random", {info.name: torch.rand(info.shape, generator=generator) for info in infos})
    if score == "magnitude":
        return scores(f"magnitude ({norm})", _magnitude(backbone, infos, norm))
    if score == "wanda":
        return scores("wanda", _wanda(over, infos))

    form: equations.Norm = {"gradient": "l1", "fisher": "l2"}.get(score, norm)  # type: ignore[assignment]
    with ExitStack() as stack:
        if head is not None:
            stack.enter_context(head_written(backbone, head))
        gradients = mean_gradient(over, [info.name for info in infos], form, expectation)
    kind = form + {"batch": "", "image": ", by image", "all": ", of all images"}[expectation]
    specific = scores(f"task-specific ({kind})", gradients)
    if score != "hybrid":
        return Scores(score, specific.values, infos, backbone.count)
    agnostic = scores(f"task-agnostic ({form})", _magnitude(backbone, infos, form))
    return hybrid(specific, agnostic, formula, lam=lam, normaliser=normaliser, name=f"hybrid {formula} ({kind})")


@contextmanager
def head_written(backbone: Backbone, head: Head) -> Iterator[None]:
    """Put a head into the backbone for a while."""
    before = Head.of(backbone)
    head.write(backbone)
    try:
        yield
    finally:
        before.write(backbone)


def hybrid(
    specific: Scores,
    agnostic: Scores,
    formula: str = "product",
    *,
    lam: float = 0.5,
    normaliser: equations.Normaliser = "mean",
    name: str | None = None,
) -> Scores:
    """Join a task-specific and a task-agnostic score of the same weights, whatever they are.

    Raises:
        SelectionError: an unknown formula, or halves over different weights.
    """
    if formula not in FORMULAS:
        raise SelectionError(f"There is no hybrid formula {formula!r}. {did_you_mean(formula, FORMULAS)}")
    if specific.infos != agnostic.infos:
        raise SelectionError("The halves of a hybrid must be scores of the same weights. Score both in one scope.")
    values = _join(specific, agnostic, formula, normaliser, lam)
    return Scores(name or f"hybrid {formula}", values, specific.infos, specific.total, (specific, agnostic), lam)


def consensus(others: Sequence[Scores], normaliser: equations.Normaliser = "mean") -> Scores:
    """The mean over other tasks of their normalised task-specific scores: task-agnostic, from data.

    Raises:
        SelectionError: no other task, or scores over different weights.
    """
    if not others or any(scores.infos != others[0].infos for scores in others):
        raise SelectionError(
            f"A consensus needs scores of the same weights by at least one other task; found {len(others)}."
        )
    normalised = [_normalised(scores.values, normaliser) for scores in others]
    values = {name: equations.consensus([n[name] for n in normalised]) for name in normalised[0]}
    return Scores(f"consensus of {len(others)} other tasks", values, others[0].infos, others[0].total)


def _join(specific: Scores, agnostic: Scores, formula: str, normaliser: equations.Normaliser, lam: float) -> Tensors:
    """The hybrid of two halves; nothing for the quota, which ``select`` carries out."""
    s, a = specific.values, agnostic.values
    if formula == "quota":
        return {}
    if formula == "product":  # w is fixed while scoring, so Ē|w·g| = |w| · Ē|g|, and likewise for squares
        return {name: s[name] * a[name] for name in s}
    s, a = _normalised(s, normaliser), _normalised(a, normaliser)
    return {name: equations.hybrid_sum(s[name], a[name], lam) for name in s}


def _normalised(values: Tensors, normaliser: equations.Normaliser) -> Tensors:
    """n(s): divided by the mean or maximum over all eligible weights, or turned into ranks among them."""
    flat = torch.cat([v.reshape(-1) for v in values.values()])
    if normaliser == "rank":
        pieces = equations.rank(flat).split([v.numel() for v in values.values()])
        return {name: piece.view_as(v) for piece, (name, v) in zip(pieces, values.items(), strict=True)}
    divisor = equations.scale(flat, normaliser)
    return {name: v / divisor if divisor > 0 else v for name, v in values.items()}


def _magnitude(backbone: Backbone, infos: tuple[WeightInfo, ...], norm: equations.Norm) -> Tensors:
    parameters = backbone.parameters
    return {
        info.name: equations.task_agnostic(parameters[info.name].detach(), norm).float().cpu().contiguous()
        for info in infos
    }


@torch.no_grad()
def _wanda(over: Pass, infos: tuple[WeightInfo, ...]) -> Tensors:
    """|w|·‖x‖ with one norm an input feature; forward passes only."""
    norms = input_norms(over, [info.name for info in infos])
    parameters = over.feed.backbone.parameters
    missing = sorted(info.name for info in infos if info.name not in norms)
    if missing:
        raise SelectionError(
            f"wanda needs the inputs of linear and convolutional layers; {missing[0]} has none that can be seen. "
            "Use scope 'matrices', or another score."
        )
    scores = {}
    for info in infos:
        norm = _per_column(norms[info.name], info)
        scores[info.name] = equations.wanda(parameters[info.name].float(), norm).cpu().contiguous()
    return scores


def _per_column(x_norm: Tensor, info: WeightInfo) -> Tensor:
    """A grouped convolution sees ``in / groups`` features per weight column: the mean norm over its groups."""
    return x_norm.reshape(-1, info.shape[1]).mean(0)
