"""``trust.json``, ``novelty.safetensors``, ``novelty.csv``: calibration and decision rules, OOD detector, distances."""

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shpeft.runs.run_file import RunFile, check_format, safetensors_metadata
from shpeft.support.bounded_files import parse_json

if TYPE_CHECKING:
    from shpeft.evaluation import AnyReliability, OODDetector, OODDistances, Reliability

RELIABILITY_FORMAT, DETECTOR_FORMAT = "shpeft.trust/1", "shpeft.novelty/2"
FACTS_DETECTOR_FORMAT = "shpeft.novelty/3"
"""The format of detectors with facts of the training images; without any, the bytes are those of the one before."""
HEAD_DETECTOR_FORMAT = "shpeft.novelty/1"
"""The format of detectors that read the input of the head."""

VALIDATION, TEST = "val", "test"

DETECTOR_ARRAYS = ("mean", "directions", "variances", "reference")
DETECTOR_TEXTS = ("blocks", "modalities", "body_parts")


class ReliabilityFiles:
    """What a run's validation and training images say about the reliability of its predictions."""

    def __init__(self, folder: Path) -> None:
        self._reliability = RunFile(folder, "trust.json")
        self._detector = RunFile(folder, "novelty.safetensors")
        self._distances = RunFile(folder, "novelty.csv")

    def write(self, reliability: "AnyReliability") -> None:
        """Write the calibration, the decision rules and what they achieve."""
        self._reliability.write(reliability_text(reliability))

    def read(self) -> "AnyReliability | None":
        """Return the calibration, the decision rules and what they achieve; None in a run of an older version.

        Raises:
            RunError: the file is damaged.
        """
        return self._reliability.parse_if_exists(parse_reliability)

    def write_detector(self, detector: "OODDetector") -> None:
        """Write the out-of-distribution detector: statistics of all training images, nothing of a single one."""
        self._detector.write(detector_bytes(detector))

    def detector(self) -> "OODDetector | None":
        """Return the out-of-distribution detector, or None in a run of an older version.

        Raises:
            RunError: the file is damaged.
        """
        return self._detector.parse_if_exists(parse_detector)

    def write_distances(self, distances: "OODDistances") -> None:
        """Write the detector's distances of the validation and test images, and of images of other kinds."""
        self._distances.write(distances_text(distances))

    def distances(self) -> "OODDistances | None":
        """Return the detector's distances, or None in a run of an older version.

        Raises:
            RunError: the file is damaged.
        """
        return self._distances.parse_if_exists(parse_distances)


def distances_text(distances: "OODDistances") -> str:
    """Return a CSV with a row an image, in the order of the predictions: its kind, its distance, and the limit."""
    parts = {VALIDATION: distances.validation, TEST: distances.test, **distances.others}
    rows = [f"{kind},{float(d)!r},{distances.limit!r}" for kind, part in parts.items() for d in part]
    return "\n".join(["images,distance,limit", *rows]) + "\n"


def parse_distances(data: bytes) -> "OODDistances":
    """Return the distances that ``distances_text`` wrote."""
    import numpy as np

    from shpeft.evaluation import OODDistances

    rows = list(csv.DictReader(data.decode().splitlines()))
    limits = {row["limit"] for row in rows}
    if len(limits) != 1:
        raise ValueError("its rows have different limits, or none")
    parts: dict[str, list[float]] = {}
    for row in rows:
        parts.setdefault(row["images"], []).append(float(row["distance"]))
    arrays = {kind: np.array(values) for kind, values in parts.items()}
    return OODDistances(float(limits.pop()), arrays.pop(VALIDATION), arrays.pop(TEST), arrays)


def reliability_text(reliability: "AnyReliability") -> str:
    """Return a reliability record as JSON."""
    return json.dumps({"format": RELIABILITY_FORMAT, **reliability.to_dict()}, indent=1, ensure_ascii=False) + "\n"


def parse_reliability(data: bytes) -> "AnyReliability":
    """Return the reliability record that ``reliability_text`` wrote."""
    from pydantic import TypeAdapter

    from shpeft.evaluation import FindingReliability, IntervalReliability

    fields = parse_json(data)
    check_format(fields, RELIABILITY_FORMAT)
    del fields["format"]
    if "findings" in fields:
        return FindingReliability({name: _reliability(part) for name, part in fields["findings"].items()})
    if "interval" in fields:
        values = dict(fields["interval"])
        values["rules"] = values.pop("choices")
        interval: IntervalReliability = TypeAdapter(IntervalReliability).validate_python(values)
        return interval
    return _reliability(fields)


def _reliability(fields: dict[str, Any]) -> "Reliability":
    """Return the record of single labels, or of one finding."""
    from pydantic import TypeAdapter

    from shpeft.evaluation import Reliability

    fields["rules"] = fields.pop("choices")  # the file has the field's first name
    reliability: Reliability = TypeAdapter(Reliability).validate_python(fields)
    return reliability


def detector_bytes(detector: "OODDetector") -> bytes:
    """Return a detector as safetensors: its arrays as tensors, its numbers in the metadata."""
    from safetensors.numpy import save

    arrays = {name: getattr(detector, name) for name in DETECTOR_ARRAYS}
    numbers = {"rest": detector.rest, "limit": detector.limit, "cases": detector.cases}
    texts = {name: list(getattr(detector, name)) for name in DETECTOR_TEXTS}
    values = {"format": DETECTOR_FORMAT, **numbers, **texts}
    if detector.training is not None:
        values |= {"format": FACTS_DETECTOR_FORMAT, "training": detector.training.to_dict()}
    return save(arrays, metadata={"shpeft": json.dumps(values, sort_keys=True)})


def parse_detector(data: bytes) -> "OODDetector":
    """Return the detector that ``detector_bytes`` wrote."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from shpeft.evaluation import OODDetector, TrainingFacts

    try:
        arrays: dict[str, Any] = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    numbers = safetensors_metadata(data)
    if numbers.get("format") not in (HEAD_DETECTOR_FORMAT, FACTS_DETECTOR_FORMAT):
        check_format(numbers, DETECTOR_FORMAT)
    del numbers["format"]
    numbers |= {name: tuple(numbers.get(name, ())) for name in DETECTOR_TEXTS}
    if "training" in numbers:
        numbers["training"] = TrainingFacts.from_dict(numbers["training"])
    return OODDetector(**arrays, **numbers)
