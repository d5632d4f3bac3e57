"""Compare decisions between ordered classes: the most probable one, the median and the rounded mean.

python tools/ordinal_decisions.py [--seeds 5]

The diameters of ``phantom:nodule`` are cut into three to five grades, and a linear head on the embedded backbone is
trained with the cumulative cross-entropy from the linear probe; the step with the lowest validation loss counts.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import shpeft
from shpeft.evaluation.grades import evaluate_grades
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.temperature import calibrate, fit_temperature
from shpeft.forward.base import ForwardPass
from shpeft.linear_probe import extract_features, fit_on_features
from shpeft.tasks import ORDINAL, Ordinal

GRADES = ((6, 12), (8, 14, 22), (6, 10, 15, 22))
"""Diameters between grades, in millimeters."""

STEPS, RATE = 200, 1e-3
RULES = ("most probable", "median", "rounded mean")


def trained(x: dict, y: dict, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of the head with the lowest validation loss."""
    head = fit_on_features(x["train"], y["train"], x["val"], y["val"], classes)
    weight, bias = (torch.nn.Parameter(tensor.double().clone()) for tensor in (head.weight, head.bias))
    optimizer, best = torch.optim.AdamW([weight, bias], lr=RATE), (np.inf, weight, bias)
    inputs = {name: torch.from_numpy(part).double() for name, part in x.items()}
    for _ in range(STEPS):
        with torch.no_grad():
            loss = ORDINAL.loss(inputs["val"] @ weight.T + bias, torch.from_numpy(y["val"])).item()
            if loss < best[0]:
                best = (loss, weight.detach().clone(), bias.detach().clone())
        optimizer.zero_grad()
        ORDINAL.loss(inputs["train"] @ weight.T + bias, torch.from_numpy(y["train"])).backward()
        optimizer.step()
    return best[1], best[2]


def measured(p: np.ndarray, labels: np.ndarray, rule: str) -> tuple[float, float]:
    """Return kappa and the mean grade error of a decision."""
    ids, classes = tuple(map(str, range(len(p)))), tuple(map(str, range(p.shape[1])))
    decisions = {
        "most probable": Ordinal("mode").decide(p),
        "median": ORDINAL.decide(p),
        "rounded mean": np.rint(p @ np.arange(p.shape[1])).astype(np.int64),
    }[rule]
    given = Predictions(ids, tuple(labels.tolist()), ids, classes, p, task=ORDINAL, decisions=decisions)
    values = evaluate_grades(given, resamples=0)
    return values["quadratic_kappa"].value, values["grade_error"].value


def main() -> None:
    """Train, decide, and print a row for each decision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    rows: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for seed in range(seeds):
        data = shpeft.load_dataset(f"phantom:nodule?n=450&size=64&difficulty=2&seed={seed}")
        run = ForwardPass(shpeft.create_backbone(classes=("a", "b"), image_size=56))
        x = {split.name: extract_features(run, split)[0] for split in data.splits}
        for cuts in GRADES:
            y = {split.name: np.digitize(split.labels, cuts) for split in data.splits}
            weight, bias = trained(x, y, len(cuts) + 1)
            p = {n: (torch.from_numpy(x[n]).double() @ weight.T + bias).softmax(1).numpy() for n in ("val", "test")}
            temperature = fit_temperature(p["val"], y["val"])[0]
            for name in p:
                for rule in RULES:
                    values = measured(calibrate(p[name], temperature), y[name], rule)
                    rows.setdefault((name, rule), []).append(values)
    for (name, rule), values in rows.items():
        own, plain = np.array(values), np.array(rows[name, RULES[0]])
        change, error = (own - plain).mean(0), (own - plain).std(0, ddof=1) / len(own) ** 0.5
        print(
            f"{name:4} {rule:13} kappa {own[:, 0].mean():.3f} ({change[0]:+.3f} ± {error[0]:.3f})  "
            f"grade error {own[:, 1].mean():.3f} ({change[1]:+.3f} ± {error[1]:.3f})"
        )


if __name__ == "__main__":
    main()
