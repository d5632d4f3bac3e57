"""What the first process of a team tells the others: the checkpoint to resume from, and the weights to train."""

from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.datasets import Dataset
from shpeft.errors import TrainingError
from shpeft.runs import Resumption
from shpeft.runs.checkpoint import CheckpointFile
from shpeft.selection.top_k import Support
from shpeft.support.team import Team

LR_SCALE = "lr_scale"
"""The name under which the learning rates of the selected weights travel beside the indices by parameter."""


def check_same(team: Team, data: Dataset, backbone: Backbone) -> None:
    """Check that every process of a team has the images and the base weights of the first.

    Raises:
        TrainingError: this process has others.
    """
    if team.alone:
        return
    own = f"images {data.fingerprint[:12]}, weights {backbone.fingerprint[:12]}"
    first = team.tell(own.encode).decode()
    if own != first:
        raise TrainingError(
            f"Process {team.rank} has {own}; the first process has {first}. Give every machine the same images, "
            "weights file and version of shpeft."
        )


def share_checkpoint(team: Team, file: CheckpointFile) -> Resumption | None:
    """Return what the first process resumes from; the others receive it into their own folders."""
    if not team.alone:
        data = team.tell(file.read_bytes)
        if data and not team.leads:
            file.write_bytes(data)
    return file.read(team.size)


def share_support(
    team: Team, backbone: Backbone, support: Support | None = None, lr_scale: Tensor | None = None
) -> tuple[Support, Tensor | None]:
    """Return the first process's support and (k,) learning rate factors.

    Args:
        support: in the first process, the selected weights.
        lr_scale: in the first process, the factors, or None.
    """
    if support is not None:
        tensors = support.indices if lr_scale is None else support.indices | {LR_SCALE: lr_scale}
        team.agree(lambda: tensors)
        return support, lr_scale
    indices = team.agree(dict)
    lr_scale = indices.pop(LR_SCALE, None)
    infos = backbone.weight_infos()
    shapes = {info.name: info.shape for info in infos if info.name in indices}
    return Support({name: indices[name] for name in shapes}, shapes, backbone.weight_count, infos), lr_scale
