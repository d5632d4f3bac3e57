"""The measures of each task in a comparison: what a cell stores, what a report shows, and how it writes the numbers."""

import math
from dataclasses import dataclass

from shpeft.support.formatting import METRIC_TITLES, METRICS
from shpeft.tasks import MULTI_LABEL, ORDINAL, REGRESSION, SINGLE_LABEL, Regression, Task

CALIBRATED = "ece_calibrated"
"""The calibration error at a record's ``temperature``, which was fitted on the validation images."""

LOG_LOSS, BRIER = "log_loss", "brier_calibrated"
"""Mean cross-entropy in nats, and Brier score, both at the temperature."""

AT_TEMPERATURE = {CALIBRATED: "ece", LOG_LOSS: "log_loss", BRIER: "brier"}
"""Metrics of calibrated probabilities, and the metric that each is of them."""

SMALLER_IS_BETTER = ("ece", CALIBRATED, "brier", LOG_LOSS, BRIER, "grade_error", "mae", "rmse")

IN_UNIT = ("grade_error", "mae", "rmse", "bias")
"""Errors in grades, or in the unit of a number; all other metrics are fractions, written in points of a hundred."""

GRADES, NUMBERS = "grades", "units"
"""The unit of a grade error, and that of an error whose number has none."""


@dataclass(frozen=True)
class Measures:
    """The measures of a task.

    Attributes:
        heading: of the task in a report.
        main: what arms are compared by where the plan names nothing else.
        second: stands beside it in the table of all datasets.
        shown: stand side by side on the page; arms are ordered by the first.
        every: all that a cell has, in the order of tables.
        by_class: what a cell stores for each class or finding; empty: nothing.
    """

    heading: str
    main: str
    second: str
    shown: tuple[str, ...]
    every: tuple[str, ...]
    by_class: str = ""

    @property
    def calibrated(self) -> tuple[str, ...]:
        """Those of calibrated probabilities."""
        return tuple(name for name in AT_TEMPERATURE if name in self.every)

    @property
    def comparable(self) -> tuple[str, ...]:
        """Those that arms can be compared by, the main one first; of a mean error neither side of 0 is better."""
        return tuple(dict.fromkeys([self.main, *self.shown, *(name for name in self.every if name != "bias")]))


_CLASSES = (*METRICS, LOG_LOSS, BRIER, CALIBRATED)

MEASURES = {
    SINGLE_LABEL.name: Measures(
        "One class an image",
        "balanced_accuracy",
        "macro_auroc",
        (LOG_LOSS, BRIER, "balanced_accuracy"),
        _CLASSES,
        "recall",
    ),
    ORDINAL.name: Measures(
        "Ordered classes",
        "quadratic_kappa",
        "grade_error",
        ("quadratic_kappa", "grade_error", LOG_LOSS),
        ("quadratic_kappa", "grade_error", *_CLASSES),
        "recall",
    ),
    MULTI_LABEL.name: Measures(
        "Several findings an image",
        "macro_auroc",
        "macro_average_precision",
        ("macro_auroc", "macro_average_precision", LOG_LOSS),
        ("macro_auroc", "macro_average_precision", "brier", LOG_LOSS, BRIER),
        "auroc",
    ),
    REGRESSION.name: Measures("A number an image", "mae", "r2", ("mae", "rmse", "r2"), ("mae", "rmse", "r2", "bias")),
}
"""The measures by the task's name."""


def measures_of(task: Task) -> Measures:
    """Return the measures of a task.

    Examples:
        >>> import shpeft
        >>> measures_of(shpeft.tasks.REGRESSION).main
        'mae'
    """
    return MEASURES[task.name]


@dataclass(frozen=True)
class Scale:
    """How the values of a metric are written.

    Attributes:
        factor: of the value.
        decimals: digits after the point.
        unit: in words.

    Examples:
        >>> POINTS.text(0.6972), Scale(1, 2, "mm").text(0.25, sign=True), POINTS.text(None)
        ('69.7', '+0.25', '–')
    """

    factor: float = 100
    decimals: int = 1
    unit: str = "points"

    def text(self, value: float | None, sign: bool = False) -> str:
        """Format a value, with ``sign`` as a difference; zero has no minus sign."""
        if value is None:
            return NONE
        return f"{round(self.factor * value, self.decimals) + 0.0:{'+' if sign else ''}.{self.decimals}f}"

    def margin(self, value: float) -> str:
        """Format a margin: ``1 point``, ``2 points``, ``0.5 mm``."""
        unit = (
            self.unit.removesuffix("s") if self.unit in ("points", GRADES) and self.factor * value == 1 else self.unit
        )
        return f"{self.factor * value:g} {unit}"


POINTS = Scale()

NONE = "–"
"""What a table shows where there is no value."""


def scale_of(task: Task, metric: str) -> Scale:
    """Return how values of a metric are written: in points of a hundred, in grades, or in a number's unit.

    Decimals of an error follow from the spread of the training numbers, of which about a thousandth is shown.

    Examples:
        >>> import shpeft
        >>> scale_of(shpeft.tasks.Regression(std=12.0, unit="mm"), "mae")
        Scale(factor=1, decimals=2, unit='mm')
    """
    if metric not in IN_UNIT:
        return POINTS
    if not isinstance(task, Regression):
        return Scale(1, 3, GRADES)
    return Scale(1, max(0, 3 - round(math.log10(task.std))), task.unit or NUMBERS)


PROPER = ("AUROC", "Brier", "R²")
"""Names that keep their capital within a sentence."""


def inside(metric: str) -> str:
    """Return the title of a metric within a sentence.

    Examples:
        >>> inside("mae"), inside("r2"), inside("log_loss")
        ('mean absolute error', 'R²', 'log loss')
    """
    return within_sentence(METRIC_TITLES[metric].partition(",")[0].partition(" (")[0])


def within_sentence(title: str) -> str:
    """Return a title as it stands within a sentence."""
    return title if title.startswith(PROPER) else title[0].lower() + title[1:]
