"""What the files of the training images state about how they were made, in counts and ranges, and a case beside it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from shpeft.images import Facts
from shpeft.images.facts import SIDES

FEWEST = 5
"""Training images that share a code before it is stored: what fewer share could identify someone."""

FACTOR = 2.0
"""By how much a pixel may be smaller than the smallest or larger than the largest one in training.

Files state the spacing in the patient or that at the detector, which is larger by the magnification: a smaller factor
would warn of images that are alike.
"""

VIEWS = frozenset(
    (
        *("AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO"),  # PS3.3, C.8.1.1
        *("CC", "MLO", "ML", "LM", "LMO", "SIO", "ISO", "FB", "XCCL", "XCCM"),  # mammography
        *("LATERAL", "OBLIQUE"),
    )
)
"""Views whose name is stored, or quoted from a file; another one might be free text."""

CAREFULLY = "read the answer with care."


@dataclass(frozen=True)
class TrainingFacts:
    """Counts of codes and the range of the pixel spacing over the training images; nothing of a single one.

    Attributes:
        images: how many were looked at.
        sides, views, planes: by code of the standard, the images that state it, if at least :data:`FEWEST` do.
        spacing: smallest and largest distance of pixels in mm; None if fewer than :data:`FEWEST` images state it.
        spaced: how many images state it.

    Examples:
        >>> facts = TrainingFacts.of([Facts(laterality="R", spacing=(0.7, 0.7))] * 60)
        >>> facts.cautions(Facts(laterality="R", spacing=(3.2, 3.2)))[0]
        'A pixel of the file is 3.2 × 3.2 mm; in 60 of 60 training images it is 0.7 mm: read the answer with care.'
        >>> facts.cautions(Facts())
        ()
    """

    images: int = 0
    sides: Mapping[str, int] = field(default_factory=dict)
    views: Mapping[str, int] = field(default_factory=dict)
    planes: Mapping[str, int] = field(default_factory=dict)
    spacing: tuple[float, float] | None = None
    spaced: int = 0

    @classmethod
    def of(cls, files: Sequence[Facts]) -> "TrainingFacts | None":
        """Return the counts and the range over the files of the training images; None if they state nothing."""
        spacings = [each.spacing for each in files if each.spacing is not None]
        counted = cls(
            len(files),
            shared(each.laterality for each in files if each.laterality in SIDES),
            shared(each.view for each in files if each.view in VIEWS),
            shared(each.plane for each in files),
        )
        if len(spacings) < FEWEST:
            return counted if counted.sides or counted.views or counted.planes else None
        low, high = min(map(min, spacings)), max(map(max, spacings))
        return cls(counted.images, counted.sides, counted.views, counted.planes, (low, high), len(spacings))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingFacts":
        """Return the facts that :meth:`to_dict` wrote."""
        spacing = values["spacing"]
        pair = None if spacing is None else (float(spacing[0]), float(spacing[1]))
        sides, views, planes = (
            {str(code): int(n) for code, n in values[name].items()} for name in ("sides", "views", "planes")
        )
        return cls(int(values["images"]), sides, views, planes, pair, int(values["spaced"]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def cautions(self, case: Facts) -> tuple[str, ...]:
        """Return a sentence for each fact of a case that hardly any training image has. What is unknown is like any."""
        sentences = []
        side = SIDES.get(case.laterality, "")
        if side and self.sides and case.laterality not in self.sides:
            sides = {SIDES[code]: count for code, count in self.sides.items()}
            sentences.append(self._caution(f"The file is marked {side}", "marked ", sides))
        if case.view and self.views and case.view not in self.views:
            own = f"as view {case.view}" if case.view in VIEWS else "with another view"
            sentences.append(self._caution(f"The file is marked {own}", "marked ", self.views))
        if case.plane and self.planes and case.plane not in self.planes:
            sentences.append(self._caution(f"The slice is {case.plane}", "", self.planes))
        return (*sentences, *self._spacing(case))

    def _spacing(self, case: Facts) -> tuple[str, ...]:
        if self.spacing is None or case.spacing is None:
            return ()
        low, high = self.spacing
        if min(case.spacing) >= low / FACTOR and max(case.spacing) <= high * FACTOR:
            return ()
        own = f"{case.spacing[0]:.3g} × {case.spacing[1]:.3g} mm"
        usual = f"in {self.spaced:,} of {self.images:,} training images it is {_range(low, high)} mm"
        return (f"A pixel of the file is {own}; {usual}: {CAREFULLY}",)

    def _caution(self, own: str, verb: str, counts: Mapping[str, int]) -> str:
        (name, count), *others = counts.items()
        usual = ", ".join((f"{count:,} are {verb}{name}", *(f"{count:,} {name}" for name, count in others)))
        return f"{own}; of {self.images:,} training images, {usual}, and fewer than {FEWEST} like it: {CAREFULLY}"


def _range(low: float, high: float) -> str:
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def shared(codes: Iterable[str]) -> dict[str, int]:
    """Return the codes that at least :data:`FEWEST` images share, with their counts: none identifies anyone."""
    return {code: count for code, count in sorted(Counter(codes).items()) if code and count >= FEWEST}
