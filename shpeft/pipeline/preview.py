"""What a configuration comes to, before anything is read or trained."""

from dataclasses import dataclass
from functools import lru_cache

import torch

from shpeft.backbones import create_backbone
from shpeft.config import RunConfig
from shpeft.errors import SelectionError
from shpeft.selection import budget_to_count


@dataclass(frozen=True)
class Preview:
    """What a budget comes to.

    Attributes:
        selected: how many weights will be trained.
        eligible: among how many they are chosen.
        backbone: how many weights the backbone has, the head excluded.
        head: how many weights the head has.
        delta_bytes: about how large the delta file can become.
    """

    selected: int
    eligible: int
    backbone: int
    head: int
    delta_bytes: int

    @property
    def share(self) -> float:
        """Trained weights of the backbone, as a fraction."""
        return self.selected / self.backbone

    @property
    def share_with_head(self) -> float:
        """Trained weights, the classifier's among them, as a fraction of all."""
        return (self.selected + self.head) / (self.backbone + self.head)


def describe_selection(config: RunConfig, classes: int = 2) -> Preview:
    """What the configuration's budget comes to; no weights are read and nothing is trained.

    Raises:
        UnknownBackbone, SelectionError: as a run would.
    """
    counts = _counts(config.backbone.name, config.backbone.image_size, config.selection.scope)
    selected = budget_to_count(config.selection.budget, counts["backbone"])
    if selected > counts["eligible"]:
        raise SelectionError(
            f"A budget of {selected:,} weights is more than the {counts['eligible']:,} eligible ones. "
            "Widen the scope or lower the budget."
        )
    head = (counts["features"] + 1) * classes
    named = min(selected, counts["parameters"])
    return Preview(selected, counts["eligible"], counts["backbone"], head, 6 * selected + 4 * head + 45 * named + 3000)


@lru_cache(maxsize=64)
def _counts(name: str, image_size: int | None, scope: str) -> dict[str, int]:
    """Sizes of a model that is made without memory for its weights."""
    with torch.device("meta"):
        backbone = create_backbone(
            name, classes=("a", "b"), weights="random", image_size=image_size, device=torch.device("meta")
        )
    infos = backbone.weight_infos(scope)
    return {
        "backbone": backbone.count,
        "eligible": sum(info.numel for info in infos),
        "parameters": len(infos),
        "features": backbone.head.in_features,
    }
