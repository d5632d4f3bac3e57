"""``shpeft calibrate``: how far to believe a run's model, and by what its diagnoses are judged."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from shpeft.cli import console, options
from shpeft.errors import ConfigError, did_you_mean
from shpeft.runs import RunFolder

if TYPE_CHECKING:
    from shpeft.trust import Choices

RULES, METHODS, BANDS = ("youden", "sensitivity", "specificity", "cost"), ("lac", "aps"), ("maximum", "threshold")


def calibrate(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    positive: Annotated[str | None, typer.Option(help="The class that is looked for; sets a threshold.")] = None,
    rule: Annotated[str, typer.Option(help="youden, sensitivity, specificity or cost.")] = "youden",
    target: Annotated[float, typer.Option(help="The wanted sensitivity or specificity.")] = 0.95,
    prevalence: Annotated[float | None, typer.Option(help="Of the class, for cost; else the validation's.")] = None,
    cost_ratio: Annotated[float, typer.Option(help="False alarms that a missed case costs.")] = 1.0,
    coverage: Annotated[float, typer.Option(help="How often prediction sets hold the true class.")] = 0.9,
    method: Annotated[str, typer.Option(help="Prediction sets: lac or aps.")] = "lac",
    by_class: Annotated[bool, typer.Option("--by-class", help="Let the coverage hold for each class.")] = False,
    answer: Annotated[float | None, typer.Option(help="The share of cases to answer, the surest.")] = None,
    max_risk: Annotated[float | None, typer.Option(help="Or the share of errors among the answered.")] = None,
    around: Annotated[str, typer.Option(help="Abstain by the maximum probability, or around the threshold.")] = (
        "maximum"
    ),
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Choose threshold, prediction sets and abstain band on a run's validation images, and keep them with the run."""
    from shpeft.trust import AbstentionRule, Choices, SetRule, ThresholdRule

    for given, known, what in ((rule, RULES, "rule"), (method, METHODS, "method"), (around, BANDS, "abstain band")):
        if given not in known:
            raise ConfigError(f"There is no {what} {given!r}. {did_you_mean(given, known)}")
    if answer is not None and max_risk is not None:
        raise ConfigError("Give the share of cases to answer (--answer) or the share of errors (--max-risk), not both.")
    threshold = None
    if positive is not None:
        chosen = cast(Literal["youden", "sensitivity", "specificity", "cost"], rule)
        threshold = ThresholdRule(positive, chosen, target, prevalence, cost_ratio)
    on = cast(Literal["maximum", "threshold"], around)
    abstention = AbstentionRule("coverage", 0.9 if answer is None else answer, on)
    if max_risk is not None:
        abstention = AbstentionRule("risk", max_risk, on)
    sets = SetRule(cast(Literal["lac", "aps"], method), coverage, by_class)
    _carry_out(RunFolder.open(run), Choices(threshold, sets, abstention), device or "auto", json)


def _carry_out(folder: RunFolder, choices: "Choices", device: str, json: bool) -> None:
    from shpeft.pipeline import choose_trust, look_again

    if folder.validation() is None:
        with console.progress_bar() as (progress, _):
            look_again(folder, device=device, progress=progress)
    trust = choose_trust(folder, choices)
    if json:
        console.as_json({"run": folder.name, **console.plain(trust)})
        return
    console.trust(trust)
    console.notice()
