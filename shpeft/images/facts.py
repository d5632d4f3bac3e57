"""What a DICOM file states about how it was made and how it lies in the patient. None of it identifies anyone."""

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from PIL import Image

from shpeft.images.acquisition import UNKNOWN, Acquisition, code
from shpeft.images.dicom_header import functional_group

if TYPE_CHECKING:
    from pydicom import Dataset

KEYWORDS = (
    *("PixelSpacing", "ImagerPixelSpacing", "SliceThickness", "ImageOrientationPatient", "PatientOrientation"),
    *("Laterality", "ImageLaterality", "ViewPosition", "ViewCodeSequence", "BurnedInAnnotation"),
)
"""Tags that only the facts need."""

KEY = "facts"
"""The entry of a Pillow image's ``info`` that holds what its file states."""

AXES = ("LR", "PA", "HF")
"""Letters of the positive and the negative direction of each axis of the patient (PS3.3 C.7.6.1.1.1)."""

OPPOSITE = {pair[at]: pair[1 - at] for pair in AXES for at in (0, 1)}

LEAST_COSINE = 0.3
"""Smallest direction cosine that is named; a second letter stands for an oblique direction."""

SIDES = {"L": "left", "R": "right", "B": "both sides"}

PLANES = {frozenset("xy"): "axial", frozenset("xz"): "coronal", frozenset("yz"): "sagittal"}
"""Planes by the two axes of the patient that lie in them."""


VIEW_CODES = {
    **dict.fromkeys(("399348003", "R-10206"), "AP"),
    **dict.fromkeys(("272479007", "R-40888"), "PA"),
    **dict.fromkeys(("399173006", "R-10236"), "LL"),
    **dict.fromkeys(("399198007", "R-10232"), "RL"),
    **dict.fromkeys(("399260004", "R-10224"), "ML"),
    **dict.fromkeys(("399368009", "R-10226"), "MLO"),
    **dict.fromkeys(("399352003", "R-10228"), "LM"),
    **dict.fromkeys(("399099002", "R-10230"), "LMO"),
    **dict.fromkeys(("399162004", "R-10242"), "CC"),
    **dict.fromkeys(("399196006", "R-10244"), "FB"),
    **dict.fromkeys(("399188001", "R-102D0"), "SIO"),
    **dict.fromkeys(("441555000", "R-40AAA"), "ISO"),
    **dict.fromkeys(("399192008", "R-1024A"), "XCCL"),
    **dict.fromkeys(("399101009", "R-1024B"), "XCCM"),
}
"""Views by their SNOMED codes, of today (SCT) and of older files (SRT), under the terms of ViewPosition; views without
such a term are not among them (PS3.16, CID 4010 and 4014)."""

SNOMED = ("SCT", "SRT", "SNM3", "99SDM")
"""Coding schemes of these codes."""


@dataclass(frozen=True)
class Facts:
    """Facts of one frame; empty or None where the file does not state them.

    Attributes:
        acquisition: modality and body part.
        laterality: ``L``, ``R`` or ``B``.
        view: such as ``AP`` or ``MLO``.
        spacing: between rows and between columns, in mm.
        at_detector: the spacing is that of the detector, so that distances in the patient are shorter.
        thickness: of the slice, in mm.
        edges: letters of the directions in the patient at the left, right, top and bottom edge.
        burnt_in: whether the file says that text identifying the patient is burnt into the pixels.
        plane: ``axial``, ``coronal`` or ``sagittal``, the nearest one, of a slice with an orientation in the patient.
    """

    acquisition: Acquisition = UNKNOWN
    laterality: str = ""
    view: str = ""
    spacing: tuple[float, float] | None = None
    at_detector: bool = False
    thickness: float | None = None
    edges: tuple[str, str, str, str] = ("", "", "", "")
    burnt_in: bool | None = None
    plane: str = ""

    @classmethod
    def of_image(cls, image: Image.Image) -> "Facts":
        """Return the facts of an image that ``open_image`` read; none of any other."""
        facts = image.info.get(KEY)
        return facts if isinstance(facts, cls) else cls()

    @classmethod
    def of_tags(cls, tags: "Dataset", frame: int) -> "Facts":
        """Read the facts of a frame; malformed values count as missing."""
        measures = functional_group(tags, frame, "PixelMeasuresSequence")
        stated_orientation = functional_group(tags, frame, "PlaneOrientationSequence").get("ImageOrientationPatient")
        orientation = _numbers(stated_orientation, 6)
        side = functional_group(tags, frame, "FrameAnatomySequence").get("FrameLaterality")
        spacing = _numbers(measures.get("PixelSpacing"), 2)
        detector = _numbers(tags.get("ImagerPixelSpacing"), 2)
        thickness = _numbers(measures.get("SliceThickness"), 1)
        stated = next((pair for pair in (spacing, detector) if pair and min(pair) > 0), None)
        return cls(
            Acquisition.of_tags(tags),
            code(side) or code(tags.get("ImageLaterality")) or code(tags.get("Laterality")),
            _view(tags),
            None if stated is None else (stated[0], stated[1]),
            stated is not None and stated == detector and stated != spacing,
            thickness[0] if thickness and thickness[0] > 0 else None,
            _edges(orientation, tags.get("PatientOrientation")),
            {"YES": True, "NO": False}.get(code(tags.get("BurnedInAnnotation"))),
            _plane(orientation),
        )

    @property
    def line(self) -> str:
        """The facts for a reader in one line; empty if the file states none.

        Examples:
            >>> Facts(Acquisition("MG", "BREAST"), "L", "MLO", (0.07, 0.07), True).line
            'mammography · breast · 0.07 × 0.07 mm at the detector · left · MLO'
        """
        kind = self.acquisition.modality_name or self.acquisition.modality
        spacing = "" if self.spacing is None else f"{self.spacing[0]:.3g} × {self.spacing[1]:.3g} mm"
        thickness = f"slice {self.thickness:.3g} mm" if self.thickness else ""
        parts = (
            *(kind, self.acquisition.body_part.lower(), self.plane),
            *(f"{spacing} at the detector" if self.at_detector else spacing, thickness),
            *(SIDES.get(self.laterality, ""), self.view),
        )
        return " · ".join(part for part in parts if part)


NO_FACTS = Facts()
"""Of an image whose file states nothing."""


def _view(tags: "Dataset") -> str:
    """Return the view by its code, else by ViewPosition.

    Where they contradict each other, the code is believed: a mammogram must have it, its meaning is fixed, and
    ViewPosition is optional (PS3.3 C.8.11.5 and C.8.11.7).
    """
    items = tags.get("ViewCodeSequence") or ()
    codes = (item for item in items if hasattr(item, "get") and item.get("CodingSchemeDesignator") in SNOMED)
    named = (VIEW_CODES.get(str(item.get("CodeValue")), "") for item in codes)
    return next(filter(None, named), "") or code(tags.get("ViewPosition"))


def _plane(orientation: tuple[float, ...]) -> str:
    """Return the plane that direction cosines of rows and columns are nearest to; empty without any.

    Examples:
        >>> _plane((1.0, 0.0, 0.0, 0.0, 0.2, -0.98))
        'coronal'
    """
    if not orientation:
        return ""
    largest = (max(range(3), key=lambda axis: abs(each[axis])) for each in (orientation[:3], orientation[3:]))
    return PLANES.get(frozenset("xyz"[axis] for axis in largest), "")


def _edges(orientation: tuple[float, ...], named: Any) -> tuple[str, str, str, str]:
    """Return the letters at the left, right, top and bottom edge."""
    if orientation:
        right, bottom = _letters(orientation[:3]), _letters(orientation[3:])
    elif named is not None and not isinstance(named, str) and len(named) == 2:
        right, bottom = (str(each) if set(str(each)) <= set(OPPOSITE) else "" for each in named)
    else:
        return "", "", "", ""
    return _opposite(right), right, _opposite(bottom), bottom


def _letters(direction: tuple[float, ...]) -> str:
    """Return the letters of a direction, the nearest axis first.

    Examples:
        >>> _letters((0.9, -0.43, 0.0)), _letters((0.0, 0.0, -1.0))
        ('LA', 'F')
    """
    largest = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    return "".join(AXES[a][0 if direction[a] > 0 else 1] for a in largest if abs(direction[a]) >= LEAST_COSINE)


def _opposite(letters: str) -> str:
    return "".join(OPPOSITE[letter] for letter in letters)


def _numbers(value: Any, count: int) -> tuple[float, ...]:
    """Return a tag's numbers; none if it is missing, has another count, or is not finite."""
    if value is None or value == "":
        return ()
    several = not isinstance(value, str | int | float) and hasattr(value, "__len__")
    try:
        numbers = tuple(float(each) for each in (value if several else [value]))
    except (TypeError, ValueError):
        return ()
    return numbers if len(numbers) == count and all(map(isfinite, numbers)) else ()
