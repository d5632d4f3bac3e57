"""What a run folder holds of its model's predictions, and of how far to believe them.

Runs of older versions hold the test predictions alone.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shpeft.files import write_atomic
from shpeft.runs import formats
from shpeft.runs.state import StateFolder

if TYPE_CHECKING:
    from shpeft.evaluation import Predictions
    from shpeft.trust import NoveltyDetector, Trust

VALIDATION, TRUST, NOVELTY = "predictions_val.csv", "trust.json", "novelty.safetensors"


class TrustFolder(StateFolder):
    """Predictions, and what calibration, threshold, prediction sets, abstaining and novelty rest on."""

    def write_predictions(self, predictions: "Mapping[str, Predictions]") -> None:
        """Write the test predictions of one or more models over the same cases: ``finetuned probe``."""
        write_atomic(self.path / "predictions.csv", formats.predictions_text(predictions))

    def predictions(self, which: str = "finetuned") -> "Predictions":
        """The test predictions of the fine-tuned model or of the linear probe."""
        with self._reading("predictions.csv"):
            return formats.parse_predictions((self.path / "predictions.csv").read_text(encoding="utf-8"), which)

    def write_validation(self, predictions: "Predictions") -> None:
        """Write what the fine-tuned model says about the validation images."""
        write_atomic(self.path / VALIDATION, formats.predictions_text({"finetuned": predictions}))

    def validation(self) -> "Predictions | None":
        """What the fine-tuned model says about the validation images; None where it was not kept."""
        path = self.path / VALIDATION
        if not path.exists():
            return None
        with self._reading(path.name):
            return formats.parse_predictions(path.read_text(encoding="utf-8"), "finetuned")

    def write_trust(self, trust: "Trust") -> None:
        """Write ``trust.json``: choices, and what the validation images made of them."""
        write_atomic(self.path / TRUST, formats.trust_text(trust))

    def trust(self) -> "Trust | None":
        """What ``trust.json`` says; None where it was not kept."""
        path = self.path / TRUST
        if not path.exists():
            return None
        with self._reading(path.name):
            return formats.parse_trust(path.read_bytes())

    def write_novelty(self, detector: "NoveltyDetector") -> None:
        """Write how the training images look to the backbone: statistics of them all, nothing of a single one."""
        write_atomic(self.path / NOVELTY, formats.novelty_bytes(detector))

    def novelty(self) -> "NoveltyDetector | None":
        """How the training images look to the backbone; None where it was not kept."""
        path = self.path / NOVELTY
        if not path.exists():
            return None
        with self._reading(path.name):
            return formats.parse_novelty(path.read_bytes())
