"""Compare rules for using a temperature that is fitted on a few validation images.

Only the training images of each dataset are read. They are divided into training images and a pool; a linear probe and
SH-PEFT are trained on the former. The pool is divided repeatedly into validation images, which choose the probe's
penalty or the epoch, as in the library, and then the temperature, and held-out images, which evaluate every rule.
Groups (patients) stay on one side. Nothing is timed.
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from harness import arguments, publish, table
from scipy.stats import t as student
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from shpeft.backbones import Backbone, create_backbone
from shpeft.config.schema import RunConfig
from shpeft.datasets import Dataset, Split, load_dataset
from shpeft.datasets.splitting import split_off
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.evaluation.metrics import calibration_error
from shpeft.evaluation.predict import predict
from shpeft.evaluation.temperature import TINY, calibrate, fit_temperature, refinement_loss
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import CachedForward, split_below
from shpeft.importance.scores import estimate_importance
from shpeft.linear_probe import STRENGTHS, extract_features, fit_on_features
from shpeft.selection.top_k import select
from shpeft.training.loop import finetune

POOL = 0.6
"""The share of the training images that forms the pool."""

Z = 1.959963984540054

Array = np.ndarray
Rule = Callable[[Array, list[int]], float]


def never(p: Array, labels: list[int]) -> float:
    """Return 1: the model's own probabilities."""
    return 1.0


def always(p: Array, labels: list[int]) -> float:
    """Return the most likely temperature."""
    return fit_temperature(p, labels)[0]


def where_sure(p: Array, labels: list[int]) -> float:
    """Return the most likely temperature where its interval excludes 1, and 1 elsewhere."""
    temperature, (low, high) = fit_temperature(p, labels)
    return 1.0 if low <= 1 <= high else temperature


def positive_part(p: Array, labels: list[int]) -> float:
    """Shrink as James and Stein do for one number: log T · max(0, 1 − (standard error / log T)²)."""
    temperature, interval = fit_temperature(p, labels)
    error = np.diff(np.log(interval))[0] / (2 * Z)
    return float(np.exp(np.log(temperature) * max(0.0, 1 - (error / max(abs(np.log(temperature)), 1e-12)) ** 2)))


def prior(spread: float, p: Array, labels: list[int]) -> float:
    """Return the posterior mean with a normal prior of log T around 0: log T · s² / (s² + standard error²)."""
    temperature, interval = fit_temperature(p, labels)
    error = np.diff(np.log(interval))[0] / (2 * Z)
    return float(np.exp(np.log(temperature) * spread**2 / (spread**2 + error**2)))


RULES: dict[str, Rule] = {
    "never": never,
    "always (the library's)": always,
    "where its interval excludes 1": where_sure,
    "shrunk by its standard error": positive_part,
    "prior, log T ± 1": partial(prior, 1.0),
    "prior, log T ± 0.3": partial(prior, 0.3),
}
LIBRARY = "always (the library's)"


def probes(x: Array, y: Array, pool: Array) -> list[Array]:
    """Return the pool's probabilities by linear probes, one for each penalty that the library tries."""
    mean, std = x.mean(0), x.std(0) + 1e-6
    probabilities = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=500).fit((x - mean) / std, y)
            probabilities.append(model.predict_proba(((pool - mean) / std).astype(np.float64)))
    return probabilities


def epochs(backbone: Backbone, x: Array, train: Split, pool: Split, count: int) -> list[Array]:
    """Return the pool's probabilities by SH-PEFT with the fast preset, one for each epoch."""
    y, some = np.asarray(train.labels), train.subset(range(0, len(train), -(-len(train) // 32)))
    # The pool does not choose the penalty here.
    inner, tried = split_off(train.labels, train.groups, 0.2, 0, train.classes)
    head = fit_on_features(x[inner], y[inner], x[tried], y[tried], len(train.classes))
    scope = RunConfig().with_preset("fast").selection.scope
    backbone_split = split_below(backbone, [info.name for info in backbone.weight_infos(scope)])
    forward_pass = ForwardPass(backbone) if backbone_split is None else CachedForward(backbone_split)
    scores = estimate_importance(backbone, train, scope=scope, head=head, forward_pass=forward_pass)
    delta = SparseDelta.zeros(backbone, select(scores, RunConfig().selection.budget), head)
    training = finetune(
        backbone, delta, Dataset("", train, some, some, train.classes, {}), epochs=count, forward_pass=forward_pass
    )
    return [predict(backbone, pool, forward_pass=forward_pass).probabilities for _ in training]


def evaluate_rules(
    candidates: list[Array], loss: Callable[[Array, list[int]], float], pool: Split, sizes: list[int], repeats: int
) -> Array:
    """Return ECE and NLL on held-out images, (sizes, repeats, rules, 2), of the best candidate by validation loss."""
    labels, errors = np.asarray(pool.labels), []
    for size in sizes:
        for repeat in range(repeats):
            share = min(0.5, size * len(pool.classes) / len(pool))
            held, validation = split_off(pool.labels, pool.groups, share, repeat, pool.classes)
            chosen = min(candidates, key=lambda p: loss(p[validation], labels[validation].tolist()))
            for rule in RULES.values():
                q = calibrate(chosen[held], rule(chosen[validation], labels[validation].tolist()))
                true, ones = q[np.arange(len(held)), labels[held]], np.ones((1, len(held)))
                ece = calibration_error(q.max(1), q.argmax(1) == labels[held], ones)[0]
                errors.append((100 * ece, -np.log(np.maximum(true, TINY)).mean()))
    return np.reshape(errors, (len(sizes), repeats, len(RULES), 2))


def cross_entropy(p: Array, labels: list[int]) -> float:
    """Return the loss by which the library chooses the probe's penalty."""
    return float(-np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-30)).mean())


def of_set(source: str, division: int, options: argparse.Namespace) -> dict[str, Array]:
    """Evaluate the rules for each model, with one division of the training images."""
    data = load_dataset(source, seed=division, val_fraction=POOL)
    train, pool = data.train, data.val  # data.test is not used
    backbone = create_backbone(
        options.backbone, classes=data.classes, weights=options.weights, image_size=options.image_size
    )
    x, y = extract_features(ForwardPass(backbone), train)
    models = {"linear probe": (probes(x, y, extract_features(ForwardPass(backbone), pool)[0]), cross_entropy)}
    if division < options.tuned:
        models["SH-PEFT"] = (epochs(backbone, x, train, pool, options.epochs), refinement_loss)
    return {name: evaluate_rules(*model, pool, options.sizes, options.repeats) for name, model in models.items()}


def interval(differences: Array) -> str:
    """Format the mean over datasets with Student's 95 % interval, which repetitions do not narrow."""
    mean, n = differences.mean(), len(differences)
    if n == 1:
        return f"{mean:+.3f}"
    half = student.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n)
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def measure(options: argparse.Namespace) -> str:
    """Return the section's text."""
    errors: dict[str, list[Array]] = {}
    for source in options.data:
        of_divisions = [of_set(source, division, options) for division in range(options.divisions)]
        for model in of_divisions[0]:
            of_model = [errors_of[model] for errors_of in of_divisions if model in errors_of]
            errors.setdefault(model, []).append(np.concatenate(of_model, axis=1))
            print(Path(source).name, model, of_model[0].mean(1).round(3).tolist(), file=sys.stderr)
    sections = []
    for model, of_sets in errors.items():
        for at, size in enumerate(options.sizes):
            means = np.stack([array[at].mean(0) for array in of_sets])  # (datasets, rules, 2)
            change = means - means[:, [list(RULES).index(LIBRARY)]]
            more = [np.concatenate([a[at, :, r, 1] - a[at, :, 0, 1] for a in of_sets]) for r in range(len(RULES))]
            rows = [
                (
                    name,
                    f"{means[:, r, 0].mean():.2f}",
                    interval(change[:, r, 0]),
                    f"{means[:, r, 1].mean():.4f}",
                    interval(change[:, r, 1]),
                    f"{100 * (more[r] > 0).mean():.0f} %",
                )
                for r, name in enumerate(RULES)
            ]
            header = ("temperature", "ECE, %", "against the library's", "NLL", "against the library's", "harms")
            sections.append(f"{model}, {size} validation images per class:\n\n{table(header, rows)}")
    return (
        f"Means over {len(options.data)} datasets, {options.divisions} divisions into training images and pool "
        f"(SH-PEFT: {options.tuned}), and {options.repeats} of each pool into validation and held-out images; no test "
        "image is used. Differences are paired, with Student's intervals over datasets. Harms: how often the NLL on "
        "held-out images is higher than without a temperature.\n\n" + "\n\n".join(sections)
    )


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", required=True, help="a dataset; may be repeated")
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10, 30], help="validation images per class, on average"
    )
    parser.add_argument("--divisions", type=int, default=4, help="into training images and pool")
    parser.add_argument("--tuned", type=int, default=1, help="divisions with which SH-PEFT is trained as well")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    publish(f"Rules for the temperature, {options.backbone}", measure(options), options.write)


if __name__ == "__main__":
    main()
