"""What every result says about the program that made it, and where it is filed."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import shpeft
from shpeft.delta.file import read_header
from shpeft.runs import RunFolder

if TYPE_CHECKING:
    from pydicom import Dataset

MANUFACTURER = "shpeft"

SERIES_NUMBERS = {"report": 9001, "map": 9002, "picture": 9003, "document": 9004, "window": 9005}
"""Number of each kind of result's series; high, so that they follow the study's own."""


@dataclass(frozen=True, eq=False)
class Model:
    """The model that made a result, by its fingerprints (SHA-256).

    Attributes:
        name: of the run.
        backbone: timm's name.
        base, delta, dataset: fingerprints of the base weights, the delta file and the training data.
    """

    name: str
    backbone: str
    base: str
    delta: str
    dataset: str

    @classmethod
    def of_run(cls, run: RunFolder) -> "Model":
        """Read the fingerprints of a finished run."""
        header = read_header(run.delta_path)
        delta = hashlib.sha256(run.delta_path.read_bytes()).hexdigest()
        data = str(header.get("dataset", {}).get("fingerprint", "unknown"))
        return cls(run.name, str(header["backbone"]), str(header["base"]), delta, data)

    @cached_property
    def device_uid(self) -> str:
        """The UID of this model as a device: the same for the same delta file."""
        from pydicom.uid import generate_uid

        return str(generate_uid("2.25.", [self.delta]))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The fingerprints as sentences for a report."""
        return (
            f"Base weights {self.base}",
            f"Delta file {self.delta}",
            f"Training data {self.dataset}",
        )

    def equipment(self, kind: str) -> dict[str, Any]:
        """Return the arguments that highdicom's classes share: equipment, and a new UID in a new series."""
        return {
            "series_instance_uid": new_uid(),
            "series_number": SERIES_NUMBERS[kind],
            "sop_instance_uid": new_uid(),
            "instance_number": 1,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": self.backbone[:64],
            "software_versions": shpeft.__version__,
            "device_serial_number": self.delta,
            "specific_character_set": "ISO_IR 192",
        }


def new_uid() -> str:
    """Return a new UID, made of a random UUID (PS3.5 B.2)."""
    from pydicom.uid import generate_uid

    return str(generate_uid(None))


def finish(result: "Dataset", description: str, laterality: str | None = None) -> "Dataset":
    """Name the series, state the side, and drop what the library repeats of the source's equipment.

    Args:
        result: the object.
        description: of its series.
        laterality: L, R or empty if unknown; None for documents, which have no side.
    """
    result.SeriesDescription = description
    if laterality is not None:
        result.Laterality = laterality
    if "ContributingEquipmentSequence" in result:
        del result.ContributingEquipmentSequence
    return result
