"""Score every weight of a backbone, against a plain forward and backward pass over the same images.

The plain pass computes and drops every gradient that is scored; an importance pass cannot do less.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from arms import Work
from harness import arguments, interleaved, publish, table
from torch import Tensor

from shpeft.forward.base import ForwardPass
from shpeft.importance.gradient_passes import ScoringPass, per_image_gradient_layers, task_specific_scores

Batch = tuple[Tensor, Tensor]

BATCHES = 2
"""Number of batches of one pass."""

ARMS = {
    "scores of batches, L1": ("l1", "batch"),
    "scores of batches, L2": ("l2", "batch"),
    "scores of images, L1": ("l1", "image"),
    "exact Fisher (scores of images, L2)": ("l2", "image"),
}

TOLERANCE = 1e-4
"""The largest difference between the exact Fisher of one pass and that of single images that counts as float32
rounding, relative to a layer's largest score."""


class Ready(ForwardPass):
    """A forward pass that repeats the rows of one batch, so that no image is decoded during timing."""

    def __init__(self, work: Work):
        super().__init__(work.backbone)
        self.work = work

    def batches(self, split: object, batch_size: int, *, order: Sequence[int], **_: object) -> Iterator[Batch]:
        """Yield batches, with rows taken modulo the size of the shared batch."""
        for rows in torch.tensor(order).remainder(len(self.work.labels)).split(batch_size):
            yield self.work.images[rows], self.work.labels[rows]


def plain(scoring: ScoringPass, names: list[str]) -> None:
    """Run forward and backward, and drop the gradients after each batch."""
    parameters = [scoring.forward_pass.backbone.parameters[name] for name in names]
    with scoring.forward_pass.backbone.frozen():
        for inputs, target in scoring.forward_pass.batches(scoring.split, scoring.batch_size, order=scoring.order):
            for p in parameters:
                p.requires_grad_(True)
            with torch.enable_grad():
                torch.nn.functional.cross_entropy(scoring.forward_pass(inputs), target).backward()
            for p in parameters:
                p.grad = None


def measure(work: Work, repeats: int) -> str:
    """Return the section's text."""
    batch = len(work.labels)
    scoring = ScoringPass(Ready(work), work.backbone, range(BATCHES * batch), batch)  # type: ignore[arg-type]
    alone = ScoringPass(scoring.forward_pass, scoring.split, scoring.order, 1)
    names = [info.name for info in work.backbone.weight_infos("matrices")]
    parameters = {name: work.backbone.parameters[name] for name in names}
    if per_image_gradient_layers(scoring, parameters) is None:
        raise SystemExit("This model has no per-image gradients in one pass: images are scored one by one.")
    fast, slow = task_specific_scores(scoring, names, "l2", "image"), task_specific_scores(alone, names, "l2", "batch")
    difference = max(float((fast[n] - slow[n]).abs().max() / slow[n].abs().max()) for n in names)
    if difference > TOLERANCE:
        raise SystemExit(f"The exact Fisher differs from that of single images by {difference:.1e}.")
    del fast, slow
    arms: dict[str, Callable[[], object]] = {"plain forward and backward": partial(plain, scoring, names)}
    arms |= {name: partial(task_specific_scores, scoring, names, *settings) for name, settings in ARMS.items()}
    arms["exact Fisher, images one by one"] = partial(task_specific_scores, alone, names, "l2", "batch")
    timings = interleaved(arms, repeats)
    base = timings["plain forward and backward"].median
    rows = [[name, f"{t.median:.3f}", f"{t.median / base:.2f}"] for name, t in timings.items()]
    return (
        f"{BATCHES} batches of {batch} images, the gradients of {len(names)} block matrices; {repeats} turns, medians. "
        f"Checked before timing: the exact Fisher equals that of images one by one (largest difference of a layer "
        f"{difference:.0e} of its largest score).\n\n" + table(("pass", "seconds", "× plain"), rows)
    )


def main() -> None:
    """Measure and print, a section for each model."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["vit_small_patch16_224", "vit_base_patch16_224"])
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    for model in options.models:
        work = Work.of(model, options.batch)
        publish(f"Scoring the weights, {model}", measure(work, options.repeats), options.write)


if __name__ == "__main__":
    main()
