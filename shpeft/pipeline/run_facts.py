"""What a finished run says of itself: its metrics, its remarks, and the metadata of its delta."""

from collections.abc import Mapping
from typing import Any

from shpeft.backbones import Backbone
from shpeft.config.schema import RunConfig
from shpeft.evaluation.by_task import difference, metrics_of
from shpeft.evaluation.predict import Predictions
from shpeft.pipeline.setup import RunSetup
from shpeft.pipeline.weight_selection import Selection
from shpeft.pipeline.weight_training import Trained, epochs_of
from shpeft.support.environment import environment
from shpeft.support.jsonable import to_jsonable
from shpeft.training.augmentation import STRENGTHS, modality_of


def compare_with_probe(finetuned: Predictions, probe: Predictions) -> dict[str, Any]:
    """Return the test metrics of both models, and the paired difference fine-tuned − probe."""
    return {
        "finetuned": metrics_of(finetuned),
        "probe": metrics_of(probe),
        "difference": to_jsonable(difference(finetuned, probe)),
    }


def count_weights(backbone: Backbone, selected: Selection) -> dict[str, Any]:
    """Return the numbers of trained, eligible and all weights, and shares of them."""
    k, head = selected.support.k, backbone.head_weight_count
    return {
        "score": selected.score,
        "selected": k,
        "eligible": selected.eligible,
        "backbone": backbone.weight_count,
        "head": head,
        "share": k / backbone.weight_count,
        "share_with_head": (k + head) / (backbone.weight_count + head),
    }


def public_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dataset card with the number of files left out in place of their names, which may name patients."""
    return {**card, "unreadable": len(card["unreadable"]), "contradictory": len(card["contradictory"])}


def delta_metadata(config: RunConfig, setup: RunSetup, selected: Selection) -> dict[str, Any]:
    """Return the metadata of the delta file, without times and paths: the same seed gives the same file."""
    portable = config.portable().model_dump(mode="json")
    portable["dataset"]["source"] = setup.data.name
    return {
        "config": portable,
        "dataset": {"name": setup.data.name, "fingerprint": setup.data.fingerprint},
        "score": selected.score,
        "versions": environment()["libraries"],
    }


def remarks_on(config: RunConfig, trained: Trained, setup: RunSetup) -> list[str]:
    """Return the remarks on training for the message of a finished run."""
    remarks = []
    if not trained.delta.values.any() and trained.delta.head.equals(setup.probe):
        remarks.append(
            "Fine-tuning brought nothing: no epoch had a lower validation loss than the linear probe, so this model is "
            "the linear probe."
        )
    if (done := epochs_of(trained.history)) < config.training.epochs:
        remarks.append(f"Stopped after epoch {done} of {config.training.epochs}.")
    resumption = trained.selected.resumption
    if resumption is not None and not resumption.same_machine:
        remarks.append(
            "Resumed with other versions or another number of threads or processes than before: the last digits of the "
            "numbers may differ from those of an uninterrupted run."
        )
    return remarks


def automatic_checkpointing(config: RunConfig, setup: RunSetup) -> list[str]:
    """Return the remark on activations that were recomputed because the memory would not do."""
    if not setup.checkpointing or config.training.checkpointing == "always":
        return []
    return [
        "Memory was short: activations were recomputed in the backward pass, which takes longer and gives the same "
        "numbers but for rounding (gradient checkpointing; --checkpointing never leaves it out)."
    ]


def unknown_modality(config: RunConfig, setup: RunSetup) -> list[str]:
    """Return the remark on augmentation without a known modality."""
    options, named = config.training, setup.data.card.get("modality")
    if options.augment not in STRENGTHS or options.modality == "general":
        return []
    if modality_of(options.modality, named) != "general":
        return []
    says = f"names the modality {named}, which has no augmentation of its own" if named else "names no modality"
    return [f"The dataset {says}: augmentation kept sides and colors. --modality says what else may change."]
