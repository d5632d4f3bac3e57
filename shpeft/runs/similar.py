"""``similar.safetensors``: features of training images, stored with consent, to show those most similar to a case."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shpeft.runs.run_file import RunFile, check_format, safetensors_metadata

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = "shpeft.similar/1"
NAME = "similar.safetensors"


@dataclass(frozen=True, eq=False)
class TrainingFeatures:
    """Features of training images; neither pixels nor names.

    Attributes:
        features: (N, D) float16, the input of the fine-tuned model's head, scaled to length 1.
        labels: (N,) int32, indices of classes.
        rows: (N,) int32, positions in the training split.
        dataset: the dataset's fingerprint; with another one the rows mean other images.
    """

    features: "NDArray[np.float16]"
    labels: "NDArray[np.int32] | NDArray[np.float64]"
    rows: "NDArray[np.int32]"
    dataset: str


class TrainingFeaturesFile:
    """The features of a run's training images; there is no file without consent."""

    def __init__(self, folder: Path) -> None:
        self._file = RunFile(folder, NAME)

    def write(self, features: TrainingFeatures) -> None:
        """Write the features."""
        from safetensors.numpy import save

        arrays: dict[str, Any] = {"features": features.features, "labels": features.labels, "rows": features.rows}
        metadata = json.dumps({"format": FORMAT, "dataset": features.dataset}, sort_keys=True)
        self._file.write(save(arrays, metadata={"shpeft": metadata}))

    def read(self) -> TrainingFeatures | None:
        """Return the features; None if the run has none.

        Raises:
            RunError: the file is damaged.
        """
        return self._file.parse_if_exists(parse_features)


def parse_features(data: bytes) -> TrainingFeatures:
    """Return the features that :meth:`TrainingFeaturesFile.write` wrote."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    metadata = safetensors_metadata(data)
    check_format(metadata, FORMAT)
    features = TrainingFeatures(arrays["features"], arrays["labels"], arrays["rows"], str(metadata["dataset"]))
    if not len(features.features) == len(features.labels) == len(features.rows):
        raise ValueError("its arrays have different lengths")
    return features
