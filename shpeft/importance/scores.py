"""Score every eligible weight of a backbone by the equations of SH-PEFT; the model is left unchanged."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from shpeft import equations
from shpeft.backbones import Backbone, WeightInfo
from shpeft.config.schema import Expectation, Formula, Score, SelectionConfig, TrainingConfig
from shpeft.datasets import Split
from shpeft.errors import SelectionError, did_you_mean
from shpeft.forward.base import ForwardPass
from shpeft.importance.gradient_passes import (
    EXPECTATIONS,
    ScoringPass,
    Tensors,
    input_norms,
    task_specific_scores,
)
from shpeft.linear_probe import CrossFittedHeads, Head
from shpeft.support.formatting import short_count
from shpeft.support.progress import Progress, silent

DEFAULTS = SelectionConfig()
"""The settings of a run, which are the defaults here."""

BATCH_SIZE = TrainingConfig().batch_size

SCORES = get_args(Score)
"""The scores that ``estimate_importance`` offers."""

FORMULAS = get_args(Formula)
"""The ways in which a hybrid joins its halves."""


class LazyTensors(Mapping[str, Tensor]):
    """Tensors by parameter name that are computed whenever they are read, so that none of them stays in memory.

    Args:
        names: of the parameters, in their order.
        compute: returns the tensor of a parameter.
    """

    def __init__(self, names: Iterable[str], compute: Callable[[str], Tensor]) -> None:
        self._names, self._compute = dict.fromkeys(names), compute

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._compute(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, eq=False)
class Scores:
    """One score for each eligible weight; a larger score is more important.

    Attributes:
        name: a short description for people, e.g. ``hybrid product (l1)``.
        values: for each parameter its scores, float32, in the parameter's shape. A product or a sum is computed from
            its halves whenever it is read: with the model and both halves, scoring holds three times the model's size.
            Empty for the quota hybrid, which is a rule over its two halves and has no score of its own.
        infos: the eligible parameters, in the model's order, which also breaks ties.
        total: the number of weights of the whole backbone, to which a budget's share refers.
        halves: the task-specific and the task-agnostic score that a hybrid joins; None for any other score.
        lam: λ, the share of the task-agnostic half.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> scores = shpeft.estimate_importance(model, data.train, "magnitude")
        >>> scores
        Scores(magnitude (l1), 122.9K eligible of 300.1K weights)
        >>> scores.values["blocks.3.attn.qkv.weight"].shape
        torch.Size([192, 64])
    """

    name: str
    values: Mapping[str, Tensor]
    infos: tuple[WeightInfo, ...]
    total: int
    halves: tuple["Scores", "Scores"] | None = None
    lam: float = 0.5

    def __repr__(self) -> str:
        eligible, total = short_count(self.eligible), short_count(self.total)
        return f"Scores({self.name}, {eligible} eligible of {total} weights)"

    @property
    def eligible(self) -> int:
        """The number of weights that may be selected."""
        return sum(info.numel for info in self.infos)


def estimate_importance(
    backbone: Backbone,
    split: Split,
    score: str = DEFAULTS.score,
    *,
    formula: str = DEFAULTS.formula,
    norm: equations.Norm = DEFAULTS.norm,
    lam: float = DEFAULTS.lam,
    normalizer: equations.Normalizer = DEFAULTS.normalizer,
    exponent: float = DEFAULTS.exponent,
    scope: str = DEFAULTS.scope,
    images: int = DEFAULTS.images,
    batch_size: int = BATCH_SIZE,
    expectation: Expectation = DEFAULTS.expectation,
    seed: int = 0,
    head: Head | CrossFittedHeads | None = None,
    forward_pass: ForwardPass | None = None,
    progress: Progress = silent,
) -> Scores:
    """Score every eligible weight of a backbone; :mod:`shpeft.equations` has the formulas.

    Args:
        split: the training images; at most ``images`` of them are used, a seeded random sample.
        score: ``gradient`` (s = Ē|g|), ``fisher`` (s = Ē g²), ``magnitude`` (s = |w| or w²), ``wanda`` (s = |w|·‖x‖),
            ``random``, or ``hybrid``: a task-specific and a task-agnostic half, joined by ``formula``.
        formula: ``product`` (s = Ē|w·g|, ``equations.hybrid_product``), ``sum`` (``equations.hybrid_sum``) or
            ``quota`` (``equations.hybrid_quota``, which ``select`` carries out).
        norm: the L1 or L2 form of magnitude and of the hybrid's halves.
        lam: λ of ``sum`` and ``quota``, the share of the task-agnostic half.
        normalizer: what ``sum`` divides each half by: its ``mean``, its ``max``, or it takes the ``rank`` instead.
        exponent: a of ``product``, the exponent of the task-agnostic half.
        scope: which weights are eligible; see ``Backbone.weight_infos``.
        expectation: what Ē is taken over. ``all``: g is the gradient of the mean loss of all images, so that opposite
            gradients cancel. ``batch``, our reading of the paper: Ē is the mean over batches, with g the gradient of a
            batch's mean loss. ``image``: the mean over images, with g the gradient of one image's loss; then Ē g² is
            the diagonal of the empirical Fisher information.
        head: the classifier under which gradients are taken, usually a linear probe: under a random head they are
            noise. None: the backbone's current head. With ``fit_cross_fitted_heads`` each image has the head that was
            fitted without it.
        forward_pass: how the backbone runs; None: the whole backbone on each image.

    Returns:
        the scores, on the CPU. The backbone is unchanged.

    Raises:
        SelectionError: an unknown score, formula or expectation; ``wanda`` for a weight outside linear and
            convolutional layers; or cross-fitted heads for other images, or for the expectation ``batch``.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> head = shpeft.fit_linear_probe(model, data.train, data.val)
        >>> shpeft.estimate_importance(model, data.train, "hybrid", head=head)
        Scores(hybrid product (l1, of all images), 122.9K eligible of 300.1K weights)
    """
    if score not in SCORES:
        raise SelectionError(f"There is no score {score!r}. {did_you_mean(score, SCORES)}")
    if formula not in FORMULAS:
        raise SelectionError(f"There is no hybrid formula {formula!r}. {did_you_mean(formula, FORMULAS)}")
    if expectation not in EXPECTATIONS:
        raise SelectionError(f"There is no expectation {expectation!r}. {did_you_mean(expectation, EXPECTATIONS)}")
    infos = backbone.weight_infos(scope)
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:images].tolist()
    heads = head if isinstance(head, CrossFittedHeads) else None
    if heads is not None and (expectation == "batch" or len(heads.folds) != len(split)):
        raise SelectionError(
            f"{len(heads.folds)} images have cross-fitted heads, {len(split)} are scored, and the expectation is "
            f"{expectation!r}. Fit the heads on the images that are scored, and take the expectation 'all' or 'image'."
        )
    scoring = ScoringPass(forward_pass or ForwardPass(backbone), split, order, batch_size, progress, heads)

    def scores(name: str, values: Mapping[str, Tensor], halves: tuple[Scores, Scores] | None = None) -> Scores:
        return Scores(name, values, infos, backbone.weight_count, halves, lam)

    if score == "random":
        generator = torch.Generator().manual_seed(seed)
        return scores("random", {info.name: torch.rand(info.shape, generator=generator) for info in infos})
    if score == "magnitude":
        return scores(f"magnitude ({norm})", _magnitude(backbone, infos, norm))
    if score == "wanda":
        return scores("wanda", _wanda(scoring, infos))

    form = _form(score, norm)
    with ExitStack() as stack:
        if isinstance(head, Head):
            stack.enter_context(head.applied(backbone))
        gradients = task_specific_scores(scoring, [info.name for info in infos], form, expectation)
    kind = form + {"batch": "", "image": ", by image", "all": ", of all images"}[expectation]
    specific = scores(f"task-specific ({kind})", gradients)
    if score != "hybrid":
        return Scores(score, specific.values, infos, backbone.weight_count)
    agnostic = scores(f"task-agnostic ({form})", _magnitude(backbone, infos, form))
    power = f" with exponent {exponent:g}" if formula == "product" and exponent != 1 else ""
    return hybrid(
        specific,
        agnostic,
        formula,
        lam=lam,
        normalizer=normalizer,
        exponent=exponent,
        name=f"hybrid {formula}{power} ({kind})",
    )


def squared_gradients(
    scores: Scores, score: str, indices: Mapping[str, Tensor], norm: equations.Norm = DEFAULTS.norm
) -> Tensor | None:
    """Return F, the squared gradient of selected weights: Ē g² (L2), or (Ē|g|)² (L1).

    Args:
        scores: what ``estimate_importance`` returned.
        score, norm: what it was asked for.
        indices: of the k selected weights in each flattened parameter, as in ``Support.indices``.

    Returns:
        F (k,); None for scores without gradients.
    """
    specific = scores.halves[0] if scores.halves is not None else scores if score in ("gradient", "fisher") else None
    if specific is None:
        return None
    f = torch.cat([specific.values[name].reshape(-1)[index] for name, index in indices.items()])
    return f if _form(score, norm) == "l2" else f.square()


def _form(score: str, norm: equations.Norm) -> equations.Norm:
    """Return the form of the task-specific score or half."""
    return "l1" if score == "gradient" else "l2" if score == "fisher" else norm


def hybrid(
    specific: Scores,
    agnostic: Scores,
    formula: str = DEFAULTS.formula,
    *,
    lam: float = DEFAULTS.lam,
    normalizer: equations.Normalizer = DEFAULTS.normalizer,
    exponent: float = DEFAULTS.exponent,
    name: str | None = None,
) -> Scores:
    """Join any task-specific and any task-agnostic score of the same weights.

    Args:
        formula, lam, normalizer, exponent: see ``estimate_importance``.
        name: of the joined score.

    Raises:
        SelectionError: an unknown formula, or halves over different weights.
    """
    if formula not in FORMULAS:
        raise SelectionError(f"There is no hybrid formula {formula!r}. {did_you_mean(formula, FORMULAS)}")
    if specific.infos != agnostic.infos:
        raise SelectionError("The halves of a hybrid must be scores of the same weights. Score both in one scope.")
    values = _join(specific, agnostic, formula, normalizer, lam, exponent)
    return Scores(name or f"hybrid {formula}", values, specific.infos, specific.total, (specific, agnostic), lam)


def consensus(others: Sequence[Scores], normalizer: equations.Normalizer = DEFAULTS.normalizer) -> Scores:
    """Average the normalized task-specific scores of other tasks (``equations.consensus``): task-agnostic, from data.

    Raises:
        SelectionError: no other task, or scores over different weights.
    """
    if not others or any(scores.infos != others[0].infos for scores in others):
        raise SelectionError(
            f"A consensus needs scores of the same weights by at least one other task; found {len(others)}."
        )
    normalized = [_normalized(scores.values, normalizer) for scores in others]
    values = {name: equations.consensus([n[name] for n in normalized]) for name in normalized[0]}
    return Scores(f"consensus of {len(others)} other tasks", values, others[0].infos, others[0].total)


def _join(
    specific: Scores,
    agnostic: Scores,
    formula: str,
    normalizer: equations.Normalizer,
    lam: float,
    exponent: float,
) -> Mapping[str, Tensor]:
    """Return the hybrid of two halves, computed when read; nothing for the quota, which ``select`` carries out."""
    s, a = specific.values, agnostic.values
    if formula == "quota":
        return {}
    if formula == "product":  # w is fixed while scoring, so Ē|w·g| = |w| · Ē|g|, and likewise for squares
        return LazyTensors(s, lambda name: s[name] * (a[name] if exponent == 1 else a[name] ** exponent))
    n_s, n_a = _normalized(s, normalizer), _normalized(a, normalizer)
    return LazyTensors(s, lambda name: equations.hybrid_sum(n_s[name], n_a[name], lam))


def _normalized(values: Mapping[str, Tensor], normalizer: equations.Normalizer) -> Mapping[str, Tensor]:
    """Return n(s): s divided by its mean or maximum over all eligible weights, or its ranks among them."""
    flat = torch.cat([v.reshape(-1) for v in values.values()])
    if normalizer == "rank":
        pieces = equations.rank(flat).split([v.numel() for v in values.values()])
        return {name: piece.view_as(v) for piece, (name, v) in zip(pieces, values.items(), strict=True)}
    divisor = equations.scale(flat, normalizer)
    return LazyTensors(values, lambda name: values[name] / divisor if divisor > 0 else values[name])


def _magnitude(backbone: Backbone, infos: tuple[WeightInfo, ...], norm: equations.Norm) -> Tensors:
    parameters = backbone.parameters
    return {
        info.name: equations.task_agnostic(parameters[info.name].detach(), norm).float().cpu().contiguous()
        for info in infos
    }


@torch.no_grad()
def _wanda(scoring: ScoringPass, infos: tuple[WeightInfo, ...]) -> Tensors:
    """Return |w|·‖x‖ (``equations.wanda``), with one norm for each input feature."""
    norms = input_norms(scoring, [info.name for info in infos])
    parameters = scoring.forward_pass.backbone.parameters
    missing = sorted(info.name for info in infos if info.name not in norms)
    if missing:
        raise SelectionError(
            f"The score 'wanda' needs the inputs of linear and convolutional layers; {missing[0]} belongs to none that "
            "is called. Use scope 'matrices', or another score."
        )
    scores = {}
    for info in infos:
        norm = _per_column(norms[info.name], info)
        scores[info.name] = equations.wanda(parameters[info.name].float(), norm).cpu().contiguous()
    return scores


def _per_column(x_norm: Tensor, info: WeightInfo) -> Tensor:
    """Average the norms over the groups of a grouped convolution, which sees ``in / groups`` features per column."""
    return x_norm.reshape(-1, info.shape[1]).mean(0)
