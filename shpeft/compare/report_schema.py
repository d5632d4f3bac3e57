"""The schema of a report: what it is about, and the questions that it answers."""

from typing import Any, Literal

from pydantic import Field, model_validator

from shpeft.compare.arm import Budget
from shpeft.config import Section

Metric = Literal[
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "macro_auroc",
    "mcc",
    "brier",
    "log_loss",
    "brier_calibrated",
    "quadratic_kappa",
    "grade_error",
    "macro_average_precision",
    "mae",
    "rmse",
    "r2",
]

BASELINE = "baseline"
"""In a question: the better of the linear probe and the head trained alone."""


class Question(Section):
    """A question that the report answers from intervals, by the rule of its kind.

    The kinds: ``better`` and ``not_worse`` compare two arms; ``retains`` asks what the largest changes of full
    fine-tuning retain of its gain; ``shared_weights`` and ``own_weights`` ask whether tasks, or seeds of one task,
    select the same weights; ``magnitude_predicts`` asks whether magnitude ranks weights as the tasks' consensus does.
    """

    kind: Literal["better", "not_worse", "retains", "shared_weights", "own_weights", "magnitude_predicts"]
    arm: str | None = Field(
        None, description="The arm in question; by default the report's method, or every arm that fits the kind."
    )
    than: str | None = Field(
        None, description="The arm that it is compared with; baseline: the better of linear probe and head alone."
    )
    by: float | None = Field(
        None,
        gt=0,
        description="For better: the smallest gain that counts; for not_worse: its margin. A fraction, or of errors in "
        "a unit so much of the unit.",
    )
    metric: Metric | Literal["ece", "ece_calibrated"] | None = Field(None, description="By default the report's.")
    topic: str = Field("", description="What the comparison tells, put before the question.")
    primary: bool = Field(
        False,
        description="For better and not_worse: the question decides the comparison, so that its p value is adjusted "
        "for all such questions by Holm's method, and its answer is on the page.",
    )
    share: float = Field(0.9, gt=0, le=1, description="For retains: the share of the gain.")
    yes_from: float = Field(
        0.5, description="For magnitude_predicts: the rank correlation from which the answer is yes."
    )
    no_below: float = Field(0.1, description="For magnitude_predicts: the rank correlation below which it is no.")


class ReportConfig(Section):
    """What the report is about; no cell depends on it."""

    title: str = "Comparison"
    method: str | None = Field(
        None, description="The arm that is compared with all others; by default the first sparse one."
    )
    budget: Budget | None = Field(None, description="The method's budget; by default its first.")
    metric: Metric | None = Field(
        None,
        description="What arms are compared by; by default, and where a task does not have it, the task's main metric: "
        "balanced_accuracy, of ordered classes quadratic_kappa, of several findings macro_auroc, of numbers mae.",
    )
    margin: float = Field(0.01, gt=0, lt=1, description="The margin of equivalence: smaller differences do not matter.")
    margin_in_unit: float | None = Field(
        None,
        gt=0,
        description="The same for errors in grades or in a number's unit; by default their equivalence is not tested.",
    )
    question: str = Field("", description="What the page asks, in a sentence or two.")
    claim: str = Field("", description="What the paper states, with its source.")
    rows: tuple[str, ...] = Field((), description="Arms of the page's table; by default those that questions name.")
    meaning: tuple[str, ...] = Field((), description="What the results mean, and for whom, without numbers.")
    limits: tuple[str, ...] = Field((), description="Limits beside those that the records show.")
    questions: tuple[Question, ...] = Field((), description="The questions that the report answers.")
    names: dict[str, str] = Field(default_factory=dict, description="Plain names of arms for the summary.")
    hardware: str = Field("", description="What the table was filled on, such as '2 processors, no GPU'.")
    tried: tuple[str, ...] = Field((), description="Further experiments, listed where the report says what failed.")
    pairs: dict[str, tuple[str, str]] = Field(
        default_factory=dict, description="For a dataset, two classes that are also evaluated by themselves."
    )

    @model_validator(mode="before")
    @classmethod
    def _without_gain(cls, raw: Any) -> Any:
        """Accept older plans, whose ``gain`` is now ``by`` of a question."""
        return {key: value for key, value in raw.items() if key != "gain"} if isinstance(raw, dict) else raw
