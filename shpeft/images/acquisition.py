"""How an image was acquired: modality and body part as a DICOM file states them."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

CODE = re.compile(r"[A-Z0-9 _]{1,16}")
"""A DICOM code string (PS3.5, 6.2); anything else in these tags is ignored."""

MODALITIES = {
    "CT": "CT",
    "MR": "MRI",
    "US": "ultrasound",
    "IVUS": "intravascular ultrasound",
    "CR": "X-ray",
    "DX": "X-ray",
    "RG": "X-ray",
    "MG": "mammography",
    "XA": "angiography",
    "RF": "fluoroscopy",
    "NM": "nuclear medicine",
    "PT": "PET",
    "OP": "fundus photography",
    "OPT": "optical coherence tomography",
    "SM": "slide microscopy",
    "GM": "microscopy",
    "ES": "endoscopy",
    "DMS": "dermoscopy",
    "XC": "photography",
}
"""Name of each modality by its DICOM code (PS3.3, C.7.3.1.1.1); codes with the same name are the same kind of image."""

CODES_OF_DATASETS = {
    "ct": ("CT",),
    "mri": ("MR",),
    "ultrasound": ("US",),
    "chest x-ray": ("CR", "DX", "RG"),
    "chest radiograph": ("CR", "DX", "RG"),
    "fundus": ("OP",),
    "oct": ("OPT",),
    "dermoscopy": ("DMS", "XC"),
    "histopathology": ("SM", "GM"),
    "microscopy": ("SM", "GM"),
}
"""DICOM codes of the modality on a dataset's card, in lower case."""


@dataclass(frozen=True)
class Acquisition:
    """Modality and body part of an image, as DICOM codes in capitals; empty where its file does not say.

    Examples:
        >>> Acquisition("US", "BREAST").modality_name
        'ultrasound'
    """

    modality: str = ""
    body_part: str = ""

    @classmethod
    def of_tags(cls, tags: "Dataset") -> "Acquisition":
        """Read both tags; a value that is not a code string counts as missing."""
        return cls(code(tags.get("Modality")), code(tags.get("BodyPartExamined")))

    @property
    def modality_name(self) -> str:
        """The name of the modality; empty if the code is unknown or missing."""
        return MODALITIES.get(self.modality, "")


UNKNOWN = Acquisition()
"""Of an image whose file states nothing."""


def code(value: object) -> str:
    """Return a DICOM code string in capitals; empty for anything else."""
    text = str(value or "").strip().upper()
    return text if CODE.fullmatch(text) else ""
