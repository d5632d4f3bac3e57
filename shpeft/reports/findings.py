"""What a report says of the image: result, threshold, prediction set, states, map, and the trained weights' part."""

from dataclasses import dataclass

from shpeft.attribution import WeightAttribution
from shpeft.diagnosis import CAPTION, Diagnosis
from shpeft.reports.tables import SPACE, Table, percent, rate, table, whole
from shpeft.saliency import METHODS, Sanity
from shpeft.trust import Judgement, Trust

VERDICTS = {2: "passes both sanity checks", 1: "passes one of two sanity checks", 0: "fails both sanity checks"}
UNCHECKED = "was not checked"

TOP = 10
"""Single weights that are listed."""


@dataclass(frozen=True)
class Section:
    """A part of the report: warnings first, then sentences, then tables."""

    warnings: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


def result(found: Diagnosis, trust: Trust | None) -> Section:
    """The result, and all that the validation images say of it."""
    judged, (name, probability) = found.judgement, found.ranked()[0]
    kind = "not calibrated" if judged is None else "calibrated"
    sentences = [f"Most probable: {name}, {percent(probability)} ({kind})."]
    if judged is None:
        sentences.append(
            "The probabilities are not calibrated: 90 % does not mean right in nine of ten such cases. No validation "
            "images stand behind them, and there is no threshold, prediction set or abstaining."
        )
    else:
        sentences += [_threshold(judged, found.classes), _set(judged, trust), _abstaining(judged, trust)]
    return Section(_warnings(found), (*sentences, _novelty(found)), (_probabilities(found),))


def _warnings(found: Diagnosis) -> tuple[str, ...]:
    warnings = []
    if found.judgement is not None and found.judgement.abstains:
        warnings.append("The model abstains: it is too unsure of this image. Leave it to people.")
    if found.novelty is not None and found.novelty.alarm:
        warnings.append(
            f"This image looks unlike the training images: more unusual than {whole(found.novelty.percentile)} of the "
            "validation images. The model may be wrong without showing it."
        )
    return tuple(warnings)


def _threshold(judged: Judgement, classes: tuple[str, ...]) -> str:
    call = judged.call
    if call is None:
        return "No operating threshold was chosen for this model."
    probability = judged.probabilities[classes.index(call.positive)]
    side = "at or above" if call.called else "below"
    return (
        f"{'Positive' if call.called else 'Negative'} for {call.positive}: its probability, {percent(probability)}, is "
        f"{side} the threshold {percent(call.threshold)}. On the validation images that chose it this threshold has a "
        f"sensitivity of {rate(call.rates.sensitivity)} and a specificity of {rate(call.rates.specificity)}."
    )


def _set(judged: Judgement, trust: Trust | None) -> str:
    words = (
        f"Cannot be ruled out: {', '.join(judged.members)}. Such prediction sets are made to hold the true class in "
        f"{whole(judged.coverage)} of images that are like the validation images"
    )
    if trust is None or trust.test is None:
        return f"{words}."
    return f"{words}; on the test images they did in {rate(trust.test.coverage.covered)}."


def _abstaining(judged: Judgement, trust: Trust | None) -> str:
    if judged.abstains is None:
        return "No abstain band was chosen for this model: it answers always."
    words = "The model abstains" if judged.abstains else "The model does not abstain"
    if trust is None or trust.abstention is None:
        return f"{words}."
    on = trust.abstention
    of = "its highest probability" if on.rule.on == "maximum" else "the probability of the positive class"
    low, high = (percent(end) if 0 < end < 1 else whole(end) for end in on.band)
    return f"{words}. It does so where {of} lies between {low} and {high}."


def _novelty(found: Diagnosis) -> str:
    if found.novelty is None:
        return "Whether the image looks like the training images is not known for this model."
    is_it = "looks unlike the training images" if found.novelty.alarm else "does not look unlike the training images"
    return f"The image {is_it}: it is more unusual than {whole(found.novelty.percentile)} of the validation images."


def _probabilities(found: Diagnosis) -> Table:
    judged, ranked = found.judgement, found.ranked()
    shares = [probability for _, probability in ranked]
    if judged is None:
        plain = [(name, percent(probability)) for name, probability in ranked]
        return table("Probability of each class, not calibrated", ("Class", "Probability"), plain, shares)
    behind = dict(zip(found.classes, judged.evidence, strict=True))
    rows = []
    for name, probability in ranked:
        told, counted = behind[name], behind[name].observed
        low, high = counted.interval
        rows.append(
            (
                name,
                percent(probability),
                f"{counted.cases:,} with {100 * told.low:.0f} to {100 * told.high:.0f}{SPACE}%",
                f"{counted.count:,} of {counted.cases:,} (95{SPACE}% interval {100 * low:.0f} to "
                f"{100 * high:.0f}{SPACE}%)",
                "yes" if name in judged.members else "no",
            )
        )
    columns = (
        "Class",
        "Probability",
        "Validation images with a probability like it",
        "of which had the class",
        "In the prediction set",
    )
    return table("Calibrated probability of each class, and the validation images behind it", columns, rows, shares)


def saliency(found: Diagnosis, sanity: Sanity | None) -> Section:
    """What the map shows, and whether it can be believed; the diagnosis has a map."""
    assert found.saliency is not None
    method = METHODS[found.saliency.method]
    sentences = [
        CAPTION,
        f"Method: {method.title}, for the score of {found.target}. {method.sentence}",
    ]
    if found.saliency.residual is not None:
        sentences.append(
            f"Residual {100 * found.saliency.residual:.1f}{SPACE}%: that much of the score's change is missing from "
            f"the map; below 5{SPACE}% is good."
        )
    if sanity is None:
        return Section(("This map was not checked: it may show the image rather than the model.",), tuple(sentences))
    rows = [[row["measure"], _number(row["this map"]), _number(row["moved copies"])] for row in sanity.numbers()]
    numbers = table("Sanity checks of the map", ("Measure", "This map", "Moved copies of it, on average"), rows)
    return Section((), (*sentences, *sanity.sentences()), (numbers,))


def badge(sanity: Sanity | None) -> str:
    """The sanity badge in words."""
    return f"This map {UNCHECKED if sanity is None else VERDICTS[sanity.passed]}."


def _number(value: str | float | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.3f}"


def weights(found: WeightAttribution, classes: tuple[str, ...]) -> Section:
    """What the trained weights did to one class's score."""
    reached = "" if found.converged else " That is more than the tolerance: read the parts as rough."
    sentences = (
        f"The fine-tuning moved the score (logit) of {classes[found.target]} on this image from {found.before:+.3f} to "
        f"{found.after:+.3f}: by {found.change:+.3f}. Scores of classes compete, so a probability can fall while its "
        "score rises.",
        f"The parts of the {found.delta.k:,} trained weights add up to {found.backbone:+.4f}; the residual is "
        f"{found.residual:+.1e}, {100 * found.relative_residual:.2g}{SPACE}% of all that they did.{reached}",
    )
    layers = found.layers()
    blocks = [
        (
            block,
            f"{sum(layer.k for layer in layers if layer.block == block):,}",
            f"{total:+.4f}",
            f"{sum(layer.gross for layer in layers if layer.block == block):.4f}",
        )
        for block, total in found.blocks().items()
    ]
    single = [
        (f"{weight.name} [{', '.join(map(str, weight.place))}]", f"{weight.moved:+.2e}", f"{weight.attribution:+.4f}")
        for weight in found.top(TOP)
    ]
    return Section(
        (),
        sentences,
        (
            table(
                "By block",
                ("Block", "Trained weights", "Change of the score", "Without cancelling"),
                blocks,
            ),
            table(f"The {len(single)} weights that did most", ("Weight", "Moved by", "Change of the score"), single),
        ),
    )
