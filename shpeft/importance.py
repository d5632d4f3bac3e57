"""Importance: the equations over a model and training images, one score a weight. The model is left as it was."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shpeft import equations
from shpeft.backbones import Backbone, WeightInfo
from shpeft.datasets import Split
from shpeft.errors import SelectionError, did_you_mean
from shpeft.feed import Feed
from shpeft.probe import Head
from shpeft.progress import Progress, silent

SCORES = ("hybrid", "gradient", "fisher", "magnitude", "wanda", "random")
FORMULAS = ("product", "sum", "quota")

Grads = dict[str, Tensor]


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
        head: the classifier under which gradients are taken; a linear probe makes the gradients mean something. None:
            the backbone's present head.
        feed: how the backbone gets its images; None: each image through the whole backbone.

    Raises:
        SelectionError: an unknown score or formula.
    """
    if score not in SCORES:
        raise SelectionError(f"There is no score {score!r}. {did_you_mean(score, SCORES)}")
    if formula not in FORMULAS:
        raise SelectionError(f"There is no hybrid formula {formula!r}. {did_you_mean(formula, FORMULAS)}")
    infos = backbone.weight_infos(scope)
    feed = feed or Feed(backbone)
    feed.check(info.name for info in infos)
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:images].tolist()

    def scores(name: str, values: Grads, halves: tuple[Scores, Scores] | None = None) -> Scores:
        return Scores(name, values, infos, backbone.count, halves, lam)

    if score == "random":
        generator = torch.Generator().manual_seed(seed)
        return scores("random", {info.name: torch.rand(info.shape, generator=generator) for info in infos})
    if score == "magnitude":
        return scores(f"magnitude ({norm})", _magnitude(backbone, infos, norm))
    if score == "wanda":
        return scores("wanda", _wanda(feed, infos, split, order, batch_size, progress))

    form: equations.Norm = {"gradient": "l1", "fisher": "l2"}.get(score, norm)  # type: ignore[assignment]
    with ExitStack() as stack:
        if head is not None:
            stack.enter_context(head_written(backbone, head))
        specific = scores(
            f"task-specific ({form})", _mean_gradient(feed, infos, split, order, form, batch_size, progress)
        )
    if score != "hybrid":
        return Scores(score, specific.values, infos, backbone.count)
    agnostic = scores(f"task-agnostic ({form})", _magnitude(backbone, infos, form))
    return scores(
        f"hybrid {formula} ({form})", _join(specific, agnostic, formula, normaliser, lam), (specific, agnostic)
    )


@contextmanager
def head_written(backbone: Backbone, head: Head) -> Iterator[None]:
    """Put a head into the backbone for a while."""
    before = Head.of(backbone)
    head.write(backbone)
    try:
        yield
    finally:
        before.write(backbone)


def _join(specific: Scores, agnostic: Scores, formula: str, normaliser: equations.Normaliser, lam: float) -> Grads:
    """The hybrid of two halves; nothing for the quota, which ``select`` carries out."""
    s, a = specific.values, agnostic.values
    if formula == "quota":
        return {}
    if formula == "product":  # w is fixed while scoring, so Ē|w·g| = |w| · Ē|g|, and likewise for squares
        return {name: s[name] * a[name] for name in s}
    s, a = _normalised(s, normaliser), _normalised(a, normaliser)
    return {name: equations.hybrid_sum(s[name], a[name], lam) for name in s}


def _normalised(values: Grads, normaliser: equations.Normaliser) -> Grads:
    """n(s): divided by the mean or maximum over all eligible weights, or turned into ranks among them."""
    flat = torch.cat([v.reshape(-1) for v in values.values()])
    if normaliser == "rank":
        pieces = equations.rank(flat).split([v.numel() for v in values.values()])
        return {name: piece.view_as(v) for piece, (name, v) in zip(pieces, values.items(), strict=True)}
    divisor = equations.scale(flat, normaliser)
    return {name: v / divisor if divisor > 0 else v for name, v in values.items()}


def _magnitude(backbone: Backbone, infos: tuple[WeightInfo, ...], norm: equations.Norm) -> Grads:
    parameters = backbone.parameters
    return {
        info.name: equations.task_agnostic(parameters[info.name].detach(), norm).float().cpu().contiguous()
        for info in infos
    }


def _mean_gradient(
    feed: Feed,
    infos: tuple[WeightInfo, ...],
    split: Split,
    order: list[int],
    norm: equations.Norm,
    batch_size: int,
    progress: Progress,
) -> Grads:
    """Ē task_specific(g), accumulated as each gradient is made: only one dense gradient is alive at a time."""
    backbone, parameters = feed.backbone, feed.backbone.parameters
    sums = {
        name: torch.zeros_like(parameters[name], dtype=torch.promote_types(parameters[name].dtype, torch.float32))
        for name in (info.name for info in infos)
    }
    handles = []
    try:
        with backbone.frozen():
            for name, total in sums.items():
                p = parameters[name].requires_grad_(True)
                handles.append(p.register_post_accumulate_grad_hook(_accumulate(total, norm)))
            done = count = 0
            for inputs, target in feed.batches(split, batch_size, order=order):
                progress("importance of the weights", done, len(order))
                with torch.enable_grad():
                    cross_entropy(feed(inputs), target).backward()
                done, count = done + len(target), count + 1
            progress("importance of the weights", done, len(order))
    finally:
        for handle in handles:
            handle.remove()
    return {name: (total / count).cpu().contiguous() for name, total in sums.items()}


def _accumulate(total: Tensor, norm: equations.Norm) -> Callable[[Tensor], None]:
    def hook(p: Tensor) -> None:
        assert p.grad is not None
        total.add_(equations.task_specific(p.grad.float(), norm))
        p.grad = None

    return hook


@torch.no_grad()
def _wanda(
    feed: Feed,
    infos: tuple[WeightInfo, ...],
    split: Split,
    order: list[int],
    batch_size: int,
    progress: Progress,
) -> Grads:
    """|w|·‖x‖ with one norm an input feature; forward passes only."""
    backbone, wanted = feed.backbone, {info.name for info in infos}
    squares: Grads = {}
    handles = []

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def see(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0].detach().float()
            features = x.flatten(0, -2) if isinstance(module, nn.Linear) else x.movedim(1, -1).flatten(0, -2)
            squares[name] = squares.get(name, 0) + features.square().sum(0)

        return see

    for key, module in backbone.module.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and f"{key}.weight" in wanted:
            handles.append(module.register_forward_pre_hook(hook(f"{key}.weight")))
    try:
        done = 0
        for inputs, target in feed.batches(split, batch_size, order=order):
            progress("importance of the weights", done, len(order))
            feed(inputs)
            done += len(target)
    finally:
        for handle in handles:
            handle.remove()
    missing = sorted(wanted - squares.keys())
    if missing:
        raise SelectionError(
            f"wanda needs the inputs of linear and convolutional layers; {missing[0]} has none that can be seen. "
            "Use scope 'matrices', or another score."
        )
    return {
        info.name: equations.wanda(backbone.parameters[info.name].float(), _per_column(squares[info.name].sqrt(), info))
        .cpu()
        .contiguous()
        for info in infos
    }


def _per_column(x_norm: Tensor, info: WeightInfo) -> Tensor:
    """A grouped convolution sees ``in / groups`` features per weight column: the mean norm over its groups."""
    return x_norm.reshape(-1, info.shape[1]).mean(0)
