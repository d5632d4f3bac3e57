"""Scoring every weight of a backbone, against a plain forward and backward pass over the same images.

The plain pass forms every gradient that is scored and drops it; an importance pass cannot do less.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from arms import Work
from harness import arguments, interleaved, publish, table
from torch import Tensor

from shpeft.feed import Feed
from shpeft.scoring import Pass, mean_gradient, ordinary

Batch = tuple[Tensor, Tensor]

BATCHES = 2
"""Batches of one pass."""

ARMS = {
    "scores of batches, L1": ("l1", "batch"),
    "scores of batches, L2": ("l2", "batch"),
    "scores of images, L1": ("l1", "image"),
    "exact Fisher (scores of images, L2)": ("l2", "image"),
}

TOLERANCE = 1e-4
"""The largest difference between the exact Fisher of one pass and that of images one by one that is taken for float32
rounding, relative to a layer's largest score."""


class Ready(Feed):
    """Gives rows of one batch again and again, so that no image is decoded while time is taken."""

    def __init__(self, work: Work):
        super().__init__(work.backbone)
        self.work = work

    def batches(self, split: object, batch_size: int, *, order: Sequence[int], **_: object) -> Iterator[Batch]:
        """As a feed's, the rows counted around the batch of the work."""
        for rows in torch.tensor(order).remainder(len(self.work.labels)).split(batch_size):
            yield self.work.images[rows], self.work.labels[rows]


def plain(over: Pass, names: list[str]) -> None:
    """Forward and backward, gradients dropped after each batch."""
    parameters = [over.feed.backbone.parameters[name] for name in names]
    with over.feed.backbone.frozen():
        for inputs, target in over.feed.batches(over.split, over.batch_size, order=over.order):
            for p in parameters:
                p.requires_grad_(True)
            with torch.enable_grad():
                torch.nn.functional.cross_entropy(over.feed(inputs), target).backward()
            for p in parameters:
                p.grad = None


def measure(work: Work, repeats: int) -> str:
    """The section's text."""
    batch = len(work.labels)
    over = Pass(Ready(work), work.backbone, range(BATCHES * batch), batch)  # type: ignore[arg-type]
    alone = Pass(over.feed, over.split, over.order, 1)
    names = [info.name for info in work.backbone.weight_infos("matrices")]
    parameters = {name: work.backbone.parameters[name] for name in names}
    if ordinary(over, parameters) is None:
        raise SystemExit("The images cannot be told apart in this model: all passes over images go one by one.")
    fast, slow = mean_gradient(over, names, "l2", "image"), mean_gradient(alone, names, "l2", "batch")
    difference = max(float((fast[n] - slow[n]).abs().max() / slow[n].abs().max()) for n in names)
    if difference > TOLERANCE:
        raise SystemExit(f"The exact Fisher differs from that of single images by {difference:.1e}.")
    del fast, slow
    arms: dict[str, Callable[[], object]] = {"plain forward and backward": partial(plain, over, names)}
    arms |= {name: partial(mean_gradient, over, names, *how) for name, how in ARMS.items()}
    arms["exact Fisher, images one by one"] = partial(mean_gradient, alone, names, "l2", "batch")
    timings = interleaved(arms, repeats)
    base = timings["plain forward and backward"].median
    rows = [[name, f"{t.median:.3f}", f"{t.median / base:.2f}"] for name, t in timings.items()]
    return (
        f"{BATCHES} batches of {batch} images, the gradients of {len(names)} block matrices; {repeats} turns, medians. "
        f"Checked before timing: the exact Fisher equals that of images one by one (largest difference of a layer "
        f"{difference:.0e} of its largest score).\n\n" + table(("pass", "seconds", "× plain"), rows)
    )


def main() -> None:
    """Measure and print, one section a model."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["vit_small_patch16_224", "vit_base_patch16_224"])
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    for model in options.models:
        work = Work.of(model, options.batch)
        publish(f"Scoring the weights, {model}", measure(work, options.repeats), options.write)


if __name__ == "__main__":
    main()
