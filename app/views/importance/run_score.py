"""The score shown on the Importance page, and the one it is compared with."""

from dataclasses import dataclass
from functools import cached_property

import streamlit as st

from app.widgets import layout, session
from shpeft.errors import SelectionError
from shpeft.importance.layer_summaries import LayerSummary, reselected
from shpeft.importance.score_units import ScoreUnit, score_unit
from shpeft.runs import RunFolder
from shpeft.selection.ranking import Rankings
from shpeft.support.markdown import plain

SCORES = {
    "hybrid": ("Hybrid", "Both parts combined: the score that selected the trained weights."),
    "task-specific": ("Task-specific", "What matters for your images; selection by this part alone."),
    "task-agnostic": ("Task-agnostic", "What matters in the pretrained model; selection by this part alone."),
}
NO_OTHER = "None"


@dataclass(frozen=True, eq=False)
class RunScore:
    """One score of one run."""

    run: RunFolder
    score: str

    @property
    def title(self) -> str:
        """The score's name."""
        configured = self.run.config.selection.score
        return SCORES[self.score][0] if configured == "hybrid" else configured.capitalize()

    @property
    def description(self) -> str:
        """A sentence on what the score selects."""
        return SCORES[self.score][1] if len(score_keys(self.run)) > 1 else "This run used a single score."

    @property
    def unit(self) -> ScoreUnit:
        """The unit of the score."""
        return score_unit(self.run.config.selection, self.score)

    @cached_property
    def rankings(self) -> Rankings | None:
        """The run's rankings; None for a run of an older version."""
        return self.run.scores.rankings()

    def layers(self, budget: int | None) -> list[LayerSummary]:
        """Return the layer summaries with the selection of this budget, or the run's own if it is None.

        Raises:
            SelectionError: the run's rankings do not reach this budget.
        """
        layers = self.run.scores.summaries(self.score)
        if self.rankings is None or budget is None:
            return layers
        return reselected(layers, self.rankings.counts(self.score, budget))

    def threshold(self, budget: int | None) -> tuple[float, float] | None:
        """Return bounds on the lowest selected score; None if they are unknown."""
        return None if self.rankings is None or budget is None else self.rankings.threshold(self.score, budget)


def score_keys(run: RunFolder) -> tuple[str, ...]:
    """Return the keys of the scores that a run has."""
    return tuple(SCORES) if run.config.selection.score == "hybrid" else ("hybrid",)


def choose_score(run: RunFolder) -> RunScore:
    """Draw the choice of a score of the run; return it."""
    score = st.segmented_control(
        "Score",
        score_keys(run),
        default="hybrid",
        required=True,
        format_func=lambda key: plain(RunScore(run, key).title),
    )
    return RunScore(run, score)


def choose_other(selected: RunScore) -> RunScore | None:
    """Draw the choice of a score to compare with; return it, or None."""
    run = selected.run
    others = [RunScore(run, key) for key in score_keys(run) if key != selected.score]
    by_title = {other.title: other for other in others}
    key = (run.config.backbone, run.config.selection.scope)
    for other_run in session.runs_with("importance.npz"):
        if other_run.name != run.name and (other_run.config.backbone, other_run.config.selection.scope) == key:
            others = [RunScore(other_run, key) for key in score_keys(other_run)]
            by_title |= {f"{other_run.name} · {other.title}": other for other in others}
    title = st.selectbox(
        "Compare with",
        [NO_OTHER, *by_title],
        help="Another score of this run, or of a run with the same backbone.",
        key=f"beside-{run.name}-{selected.score}",
    )
    return by_title.get(title)


def layers_or_own(other: RunScore, budget: int | None) -> list[LayerSummary]:
    """Return the layer summaries at the budget; show an error and use the run's own budget if it is out of reach."""
    try:
        return other.layers(budget)
    except SelectionError as error:
        layout.show_error(error)
        return other.layers(None)
