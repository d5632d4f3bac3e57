"""The work of a plan's cells in image passes, and the seconds that it takes; nothing is trained."""

import math
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from shpeft.compare.arm import UNTRAINED
from shpeft.compare.cells import Cell
from shpeft.support.image_size import height_and_width
from shpeft.support.progress import Progress

TRAINING = {"sparse": 2.3, "bitfit": 2.4, "ln-tune": 2.4, "layerscale": 2.4, "lora": 2.5, "vera": 2.5, "full": 3.2}
"""An image's training step, in forward passes of it. The head alone is trained on features that are computed once."""

SCORING = 3.0
"""An image's gradient of all weights, in forward passes."""

POSTERIOR = 8.0
"""An image's Jacobian for a Laplace posterior, in forward passes: a backward pass for each of about four classes."""

Cases = Mapping[str, int]
"""The number of images of each split: ``train``, ``val`` and ``test``."""


def image_passes(cell: Cell, cases: Cases) -> float:
    """Return the work of a cell in forward passes of one image, with all trainings that tune its learning rate.

    An image of another size than the plan's counts by its area.

    Examples:
        >>> from shpeft.compare import Plan, list_cells
        >>> arms = {"probe": {"kind": "probe"}, "full": {"kind": "full", "lr": [1e-5, 1e-4]}}
        >>> settings = {"datasets": {"a": {"source": "a"}}, "seeds": [0], "training": {"epochs": 2}}
        >>> plan = Plan.parse(settings | {"arms": arms})
        >>> [image_passes(cell, {"train": 10, "val": 5, "test": 20}) for cell in list_cells(plan)]
        [35.0, 173.0]
    """
    return _relative_area(cell) * _passes_of_its_size(cell, cases)


def _relative_area(cell: Cell) -> float:
    """Return the area of an image in those of the plan's other images, which are what forward passes are counted in."""
    own, common = cell.plan.backbone_of(cell.dataset).image_size, cell.plan.backbone.image_size
    if own is None or common is None:
        return 1.0
    return math.prod(height_and_width(own)) / math.prod(height_and_width(common))


def _passes_of_its_size(cell: Cell, cases: Cases) -> float:
    arm = cell.plan.arms[cell.arm]
    tested = 1 + len(cell.plan.shifts_of(cell.dataset))  # further test sets have about as many images
    testing = float(cases["val"] + tested * cases["test"])
    if arm.kind == "choice":
        return 0.0
    if arm.kind == "probe":
        return cases["train"] + testing
    if arm.kind in ("revert", "head"):
        return testing
    epoch = TRAINING[arm.kind] * cases["train"] + cases["val"]
    fitting = 0.0
    if arm.posterior is not None:
        fitting = POSTERIOR * (cases["train"] + cases["val"])
        testing *= POSTERIOR
    gradients = {"random": 0, "magnitude": 0, "change": 0, "step": 2}.get(arm.score, 1) if arm.kind == "sparse" else 0
    scoring = SCORING * gradients * min(arm.images, cases["train"])
    return trainings(cell) * (cell.plan.settings(arm).epochs * epoch + fitting) + scoring + testing


def trainings(cell: Cell) -> int:
    """Return how many trainings a cell takes: one a member for each choice of learning rates that it tries itself."""
    arm = cell.plan.arms[cell.arm]
    if arm.kind in UNTRAINED:
        return 0
    return arm.members * (len(cell.plan.rates(arm, cell.budget)) if cell in cell.tuning_cells else 1)


class CostEstimate:
    """The seconds of cells, from the finished ones of the same arm, kind or table.

    Args:
        seconds_a_pass: of a forward pass of one image; None: only finished cells tell.
    """

    def __init__(self, seconds_a_pass: float | None = None):
        self._prior, self._cases = seconds_a_pass, dict[tuple[str, int | None], Cases]()
        self._seconds: dict[object, float] = defaultdict(float)
        self._passes: dict[object, float] = defaultdict(float)

    def passes(self, cell: Cell) -> float:
        """Return the work of a cell in image passes."""
        known = list(self._cases.values()) or [{"train": 100, "val": 50, "test": 100}]  # no cell tells more yet
        mean = {name: round(sum(cases[name] for cases in known) / len(known)) for name in ("train", "val", "test")}
        return image_passes(cell, self._cases.get((cell.dataset, cell.images), mean))

    def add(self, cell: Cell, record: Mapping[str, Any]) -> None:
        """Add a finished cell; a choice has the seconds of its candidates, which count by themselves."""
        self.set_cases(cell, record["cases"])
        if cell.plan.arms[cell.arm].kind == "choice":
            return
        for group in self._groups(cell):
            self._seconds[group] += record["seconds"]
            self._passes[group] += self.passes(cell)

    def set_cases(self, cell: Cell, cases: Cases) -> None:
        """Set the number of images of a cell's dataset."""
        self._cases[cell.dataset, cell.images] = cases

    def seconds(self, cell: Cell) -> float | None:
        """Return the seconds that a cell is expected to take; None while nothing is known."""
        for group in self._groups(cell):
            if self._passes[group]:
                return self.passes(cell) * self._seconds[group] / self._passes[group]
        return None if self._prior is None else self.passes(cell) * self._prior

    def total(self, cells: Iterable[Cell]) -> float | None:
        """Return the seconds of several cells; None while nothing is known."""
        seconds = [self.seconds(cell) for cell in cells]
        return None if None in seconds else sum(filter(None, seconds))

    def _groups(self, cell: Cell) -> tuple[object, ...]:
        return (cell.arm, cell.budget), cell.plan.arms[cell.arm].kind, "all"


class TableProgress:
    """Turns the progress of a cell into that of all cells of a run, weighed by their expected seconds.

    Args:
        inner: receives the stage with the cell's title, and parts of ``PARTS`` of the whole.
        cells: the cells of the run.
        costs: their costs; finished cells are to be added.
    """

    PARTS = 10_000

    def __init__(self, inner: Progress, cells: Sequence[Cell], costs: CostEstimate):
        self._inner, self._cells, self._costs = inner, cells, costs
        self._cell: Cell | None = None
        self._before = self._share = self._within = 0.0
        self._last, self._training = 0, 0

    def begin(self, cell: Cell, finished: Container[str]) -> None:
        """Begin a cell; ``finished`` has the keys of the finished ones."""
        weights = {c: self._costs.seconds(c) or self._costs.passes(c) for c in self._cells}
        whole = sum(weights.values()) or 1.0
        self._before = sum(w for c, w in weights.items() if c.key in finished) / whole
        self._share, self._within = weights[cell] / whole, 0.0
        self._cell, self._last, self._training = cell, 0, 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Pass on where the run is: a cell advances with its trainings, of which it may have several."""
        if self._cell is not None and stage == "training" and total:
            self._training += done < self._last
            self._last = done
            number = max(1, trainings(self._cell))
            self._within = min(1.0, (min(self._training, number - 1) + done / total) / number)
        title = stage if self._cell is None else f"{self._cell.title}: {stage}"
        self._inner(title, round(self.PARTS * (self._before + self._share * self._within)), self.PARTS)
