"""Preview the effect of a budget without reading weights or images."""

from dataclasses import dataclass
from functools import lru_cache

import torch

from shpeft.backbones import create_backbone
from shpeft.config.schema import BackboneConfig, RunConfig
from shpeft.pipeline.budget_choice import budgets
from shpeft.selection.top_k import check_budget


@dataclass(frozen=True)
class SelectionPreview:
    """The numbers of weights that a budget leads to.

    Attributes:
        selected: weights that will be trained; with the budget ``auto``, at most.
        eligible: weights that they are selected from.
        backbone: weights of the backbone without its head.
        head: weights of the head.
        delta_bytes: approximate upper bound on the size of the delta file.
    """

    selected: int
    eligible: int
    backbone: int
    head: int
    delta_bytes: int

    @property
    def share(self) -> float:
        """Return the trained fraction of the backbone."""
        return self.selected / self.backbone

    @property
    def share_with_head(self) -> float:
        """Return the trained fraction of backbone and head together; the head is trained as a whole."""
        return (self.selected + self.head) / (self.backbone + self.head)


def preview_selection(config: RunConfig, classes: int = 2) -> SelectionPreview:
    """Preview the selection of a configuration for ``classes`` classes; no weights are read and nothing is trained.

    Raises:
        UnknownBackbone: there is no such backbone.
        SelectionError: the budget exceeds the eligible weights.
    """
    counts = _counts(config.backbone.model_copy(update={"weights": "random"}), config.selection.scope)
    largest = budgets(config.selection.budget, counts["eligible"], counts["backbone"])[-1]
    selected = check_budget(largest, counts["eligible"], counts["backbone"])
    head = (counts["features"] + 1) * classes
    named = min(selected, counts["parameters"])
    return SelectionPreview(
        selected, counts["eligible"], counts["backbone"], head, 6 * selected + 4 * head + 45 * named + 3000
    )


@lru_cache(maxsize=64)
def _counts(config: BackboneConfig, scope: str) -> dict[str, int]:
    """Count the weights of a model on the meta device, which allocates no memory."""
    with torch.device("meta"):
        backbone = create_backbone(**config.model_dump(), classes=("a", "b"), device=torch.device("meta"))
    infos = backbone.weight_infos(scope)
    return {
        "backbone": backbone.weight_count,
        "eligible": sum(info.numel for info in infos),
        "parameters": len(infos),
        "features": backbone.head.in_features,
    }
