"""Report sections about the image: answer, probabilities, saliency map and weight attribution."""

from dataclasses import dataclass

from shpeft.diagnosis import CAPTION, Diagnosis
from shpeft.evaluation import AnyReliability, CaseReliability
from shpeft.explanation.attribution import WeightAttribution
from shpeft.explanation.saliency import METHODS, Sanity
from shpeft.reports.formatting import SPACE, Table, percent, table, whole
from shpeft.tasks import Regression

VERDICTS = {2: "passes both sanity checks", 1: "passes one of two sanity checks", 0: "fails both sanity checks"}
UNCHECKED = "was not checked"

TOP = 10
"""Number of single weights in the table."""


@dataclass(frozen=True)
class Section:
    """Section of the report: warnings, then sentences, then tables."""

    warnings: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


NOT_AN_ANSWER = "This is what the model computed. It is not an answer."


def answer(diagnosis: Diagnosis, reliability: AnyReliability | None) -> Section:
    """Return the sentences of the first page: what is known about the decision, or the reasons for none."""
    result = diagnosis.answer
    if not result.given:
        return Section(sentences=(*result.reasons, "A qualified reader has to decide."))
    points = [part.operating for part in ({} if reliability is None else reliability.parts).values()]
    promise = tuple(point.bound.sentence for point in points if point is not None and point.bound is not None)
    return Section(sentences=(*result.sentences, *_missing(diagnosis), *promise))


def details(diagnosis: Diagnosis) -> Section:
    """Return all probabilities, and what the gate before the answer computed; marked where there is no answer."""
    result = diagnosis.answer
    computed = () if result.given else (f"{NOT_AN_ANSWER} The decision would be {result.decision}.", *result.sentences)
    parts = diagnosis.findings or (diagnosis,)
    checks = (_ood(diagnosis), *(() if diagnosis.findings else (_abstaining(diagnosis.reliability),)))
    if diagnosis.estimate is not None:
        return Section(() if result.given else (NOT_AN_ANSWER,), (*computed, _ood(diagnosis)))
    tables = tuple(_probabilities(part) for part in parts)
    return Section(() if result.given else (NOT_AN_ANSWER,), (*computed, *checks), tables)


def _missing(diagnosis: Diagnosis) -> tuple[str, ...]:
    if diagnosis.calibrated or diagnosis.estimate is not None:
        return ()
    return (
        "90 % does not mean that 9 of 10 such cases are correct: this model has no validation results, and therefore "
        "no threshold, prediction set or abstain band.",
    )


def _abstaining(case: CaseReliability | None) -> str:
    if case is None or case.abstains is None:
        return "No abstain band was chosen for this model."
    return f"The image is {'inside' if case.abstains else 'outside'} the model's abstain band."


def _ood(diagnosis: Diagnosis) -> str:
    if diagnosis.ood is None:
        return "This model has no check of whether an image looks like the training images."
    if diagnosis.ood.alarm:
        return " ".join(diagnosis.ood.reasons)
    return (
        f"The image is inside the range of the validation images; {whole(diagnosis.ood.percentile)} of them are less "
        "unusual."
    )


def _probabilities(diagnosis: Diagnosis) -> Table:
    case, ranked = diagnosis.reliability, diagnosis.ranked()
    shares = [probability for _, probability in ranked]
    if case is None:
        uncalibrated = [(name, percent(probability)) for name, probability in ranked]
        return table("Probability of each class, not calibrated", ("Class", "Probability"), uncalibrated, shares)
    evidence = dict(zip(diagnosis.classes, case.evidence, strict=True))
    rows = []
    for name, probability in ranked:
        bin, observed = evidence[name], evidence[name].observed
        low, high = observed.interval
        rows.append(
            (
                name,
                percent(probability),
                f"{observed.cases:,} with {100 * bin.low:.0f} to {100 * bin.high:.0f}{SPACE}%",
                f"{observed.count:,} of {observed.cases:,} (95{SPACE}% interval {100 * low:.0f} to "
                f"{100 * high:.0f}{SPACE}%)",
                "yes" if name in case.prediction_set else "no",
            )
        )
    columns = (
        "Class",
        "Probability",
        "Validation images with a similar probability",
        "Of these, images with the class",
        "Still possible",
    )
    return table("Calibrated probability of each class, with the validation images behind it", columns, rows, shares)


def saliency(diagnosis: Diagnosis, sanity: Sanity | None) -> Section:
    """Return what the map shows and the results of its checks; the diagnosis must have a map."""
    assert diagnosis.saliency is not None
    method, residual = METHODS[diagnosis.saliency.method], diagnosis.saliency.residual
    sentences = [
        CAPTION,
        f"Method: {method.title}, for the score of {diagnosis.target}. {method.sentence}",
    ]
    if residual is not None:
        sentences.append(
            f"Residual: {100 * residual:.1f}{SPACE}%. This share of the score's change is missing from the map; below "
            f"5{SPACE}% is good."
        )
    if sanity is None:
        return Section(("This map was not checked. It may show the image rather than the model.",), tuple(sentences))
    rows = [[row["measure"], _number(row["this map"]), _number(row["moved copies"])] for row in sanity.numbers()]
    numbers = table("Sanity checks of the map", ("Measure", "This map", "Moved copies of it, mean"), rows)
    warnings = (sanity.withheld,) if sanity.withheld else ()
    return Section(warnings, (*sentences, *sanity.sentences()), (numbers,))


def badge(sanity: Sanity | None) -> str:
    """Return the verdict of the sanity checks in one sentence."""
    return f"This map {UNCHECKED if sanity is None else VERDICTS[sanity.passed]}."


def _number(value: str | float | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.3f}"


def weights(attribution: WeightAttribution, classes: tuple[str, ...]) -> Section:
    """Return the effect of the trained weights on one class's score."""
    warning = "" if attribution.converged else " This exceeds the tolerance: the parts are approximate."
    competing = (
        " The scores of the classes compete, so a probability can fall while its score rises."
        if not isinstance(attribution.delta.task, Regression)
        else f" A score of 1 is {attribution.delta.task.shown(attribution.delta.task.std, classes)}, the standard "
        "deviation of the training images."
    )
    sentences = (
        f"Fine-tuning changed the score (logit) of {classes[attribution.target]} for this image from "
        f"{attribution.before:+.3f} to {attribution.after:+.3f}, by {attribution.change:+.3f}.{competing}",
        f"The contributions of the {attribution.delta.k:,} trained weights sum to {attribution.backbone:+.4f}. The "
        f"residual is {attribution.residual:+.1e}, {100 * attribution.relative_residual:.2g}{SPACE}% of the sum of "
        f"their absolute values.{warning}",
    )
    layers = attribution.layers()
    blocks = [
        (
            block,
            f"{sum(layer.k for layer in layers if layer.block == block):,}",
            f"{total:+.4f}",
            f"{sum(layer.gross for layer in layers if layer.block == block):.4f}",
        )
        for block, total in attribution.blocks().items()
    ]
    top = [
        (
            f"{weight.name} [{', '.join(map(str, weight.position))}]",
            f"{weight.delta:+.2e}",
            f"{weight.attribution:+.4f}",
        )
        for weight in attribution.top(TOP)
    ]
    return Section(
        (),
        sentences,
        (
            table("By block", ("Block", "Trained weights", "Change of the score", "Sum of absolute changes"), blocks),
            table(
                f"The {len(top)} weights with the largest effect",
                ("Weight", "Change of the weight", "Change of the score"),
                top,
            ),
        ),
    )
