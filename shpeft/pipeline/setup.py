"""Set up a run: load the images and the backbone, and fit its linear probe."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shpeft.backbones import Backbone, create_backbone, resolve_device
from shpeft.config.schema import RunConfig
from shpeft.datasets import Dataset, load_dataset
from shpeft.errors import CannotSplit
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import CachedForward, split_below
from shpeft.forward.precision import resolve_precision
from shpeft.linear_probe import Head, fit_linear_probe
from shpeft.pipeline.budget_choice import budgets
from shpeft.pipeline.calibrate import check_decision
from shpeft.pipeline.cancellation import call_after_each_block
from shpeft.pipeline.memory import free_bytes, needed_bytes
from shpeft.pipeline.progress import RunProgress, WorkPlan, trained_share
from shpeft.pipeline.team_sharing import check_same
from shpeft.runs import FEATURES
from shpeft.selection.top_k import check_budget
from shpeft.support.progress import silent
from shpeft.support.team import ALONE, Team


@dataclass(frozen=True, eq=False)
class RunSetup:
    """What scoring and fine-tuning need.

    Attributes:
        data: training, validation and test images.
        backbone: the pretrained backbone.
        probe: the head of the linear probe.
        forward_pass: runs the blocks below every eligible weight once per image.
        plan: the work of the whole run, in image passes.
        checkpointing: whether activations are recomputed in the backward pass.
    """

    data: Dataset
    backbone: Backbone
    probe: Head
    forward_pass: ForwardPass
    plan: WorkPlan
    checkpointing: bool = False


def set_up(
    config: RunConfig,
    meter: RunProgress | None = None,
    folder: Path | None = None,
    team: Team = ALONE,
    data: Dataset | None = None,
) -> RunSetup:
    """Load the images, build the backbone and fit its linear probe.

    Args:
        config: the configuration of the run.
        progress: the progress of the whole run; silent by default.
        folder: the run folder, for cached features that do not fit in memory.
        team: the processes that share the images.
        data: the images; None: those of the configuration.

    Raises:
        SelectionError: the budget exceeds the eligible weights.
        TrainingError: a process of the team has other images or weights than the first.
        ShpeftError: the images or the backbone cannot be opened.
    """
    meter = meter or RunProgress(silent)
    data = data or load_images(config, meter)
    check_decision(config.decision, data.val)
    meter.lap("dataset")
    meter.part("Loading the backbone")
    backbone = create_backbone(
        **config.backbone.model_dump(),
        classes=data.classes,
        seed=config.seed,
        device=resolve_device(config.device),
        task=data.task,
    )
    if not config.training.compiled:  # a compiled model has no blocks to hook
        call_after_each_block(backbone, meter.repeat)
    eligible = backbone.weight_infos(config.selection.scope)
    count, total = sum(info.numel for info in eligible), backbone.weight_count
    check_budget(budgets(config.selection.budget, count, total)[0], count, total)
    check_same(team, data, backbone)
    current = ForwardPass(backbone, resolve_precision(config.precision, backbone.device), team)
    names, always = [info.name for info in eligible], config.training.checkpointing == "always"
    forward_pass = forward_pass_for(config, backbone, names, folder, current, checkpointing=always)
    checkpointing = always or bool(team.tell(lambda: b"yes" if _short_of_memory(config, forward_pass) else b""))
    if checkpointing:  # blocks that run again would not receive cached features
        forward_pass = current
    share = trained_share(backbone.weight_infos(), eligible) if isinstance(forward_pass, CachedForward) else 1.0
    plan = WorkPlan.of(config, [len(split) for split in data.splits], share, checkpointing)
    meter.plan(plan)
    meter.lap("backbone")
    progress = meter.part("Fitting the linear probe", len(data.train), len(data.val), 0)
    probe = fit_linear_probe(backbone, data.train, data.val, forward_pass=forward_pass, progress=progress)
    meter.lap("probe")
    return RunSetup(data, backbone, probe, forward_pass, plan, checkpointing)


def load_images(config: RunConfig, meter: RunProgress) -> Dataset:
    """Load the images of a configuration."""
    return load_dataset(**config.dataset.model_dump(), seed=config.seed, progress=meter.part("Reading the images"))


def _short_of_memory(config: RunConfig, forward_pass: ForwardPass) -> bool:
    """Return whether automatic checkpointing has to begin: it can, and the memory would not do without it."""
    backbone = forward_pass.backbone
    if config.training.checkpointing != "auto" or not backbone.can_checkpoint:
        return False
    free = free_bytes(backbone.device)
    return free is not None and needed_bytes(config, forward_pass) > free


def forward_pass_for(
    config: RunConfig,
    backbone: Backbone,
    names: Iterable[str],
    folder: Path | None,
    current: ForwardPass | None = None,
    *,
    checkpointing: bool = False,
) -> ForwardPass:
    """Return a forward pass that caches the blocks below the parameters that may change.

    Args:
        config: whether and with which precision to cache.
        backbone: the model.
        names: the parameters that may change.
        folder: the run folder, for cached features that do not fit in memory.
        current: the forward pass in use; it is returned if no more blocks can be cached.
        checkpointing: whether blocks run again in the backward pass, where they do not receive cached features.
    """
    current = current or ForwardPass(backbone, resolve_precision(config.precision, backbone.device))
    if not config.training.cache or checkpointing:
        return current
    try:
        split = split_below(backbone, names)
    except CannotSplit:
        return current
    if split is None or (isinstance(current, CachedForward) and current.backbone_split.block == split.block):
        return current
    return CachedForward(split, folder and folder / FEATURES, current.precision, current.team)
