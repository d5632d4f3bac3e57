"""Several findings, each of them there or not, in one image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from shpeft.tasks.base import Reduction, Task

PRESENT, ABSENT, UNKNOWN = 1, 0, -1
"""Values of a finding in a label."""

SEPARATOR, DOUBT = "|", "?"
"""In a label's text: between findings, and before one of which nobody knows whether it is there."""

NO_FINDING = "No finding"
"""The text of a label without findings."""

Label = tuple[int, ...]


@dataclass(frozen=True)
class MultiLabel(Task):
    """Findings that may occur together: a sigmoid and a binary cross-entropy for each.

    The classes are the findings. A label has one value a finding: 1 (present), 0 (absent) or -1 (unknown), and what is
    unknown counts neither in the loss nor in a metric.

    Examples:
        >>> task, findings = MultiLabel(), ("edema", "effusion", "mass")
        >>> task.parse("effusion|?mass", findings)
        (0, 1, -1)
        >>> task.text((0, 0, 0), findings)
        'No finding'
    """

    name = "multi-label"
    label_column = "findings"
    fewest_classes = 1

    def target(self, labels: Sequence[Label]) -> Tensor:
        """Return the labels, float32 (B, C), with -1 for what is unknown."""
        return torch.tensor(labels, dtype=torch.float32)

    def loss(self, logits: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
        """Return the binary cross-entropy in nats: of a case, the sum over its known findings, divided by C.

        The divisor does not depend on what is known, so that a case with one known finding does not count C times.
        """
        known = target != UNKNOWN
        each = binary_cross_entropy_with_logits(logits, target.clamp_min(0).to(logits.dtype), reduction="none")
        cases = torch.where(known, each, 0).sum(1) / logits.shape[1]
        return cases.mean() if reduction == "mean" else cases.sum()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the sigmoid: for each finding the probability that it is there."""
        return logits.double().sigmoid()

    def counts(self, labels: Sequence[Label], classes: Sequence[str]) -> dict[str, int]:
        """Return for each finding the number of cases that have it."""
        present = (_array(labels, classes) == PRESENT).sum(0)
        return {name: int(count) for name, count in zip(classes, present, strict=True)}

    def renumbered(self, labels: Sequence[Label], before: Sequence[str], after: Sequence[str]) -> tuple[Label, ...]:
        """Return the labels for other findings; those that ``before`` lacks are unknown."""
        at = [list(before).index(name) if name in before else None for name in after]
        return tuple(tuple(UNKNOWN if column is None else label[column] for column in at) for label in labels)

    def strata(self, labels: Sequence[Label], classes: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the findings of each case; a case without any has a stratum of its own, if there are two of them."""
        rows = [tuple(c for c, value in enumerate(label) if value == PRESENT) for label in labels]
        healthy = (len(classes),) if sum(not row for row in rows) > 1 else ()
        return [row or healthy for row in rows]

    def parts(self, text: str) -> tuple[str, ...]:
        """Return the findings that a label's text says are there."""
        names = (part.strip() for part in text.split(SEPARATOR))
        return tuple(name for name in names if name and not name.startswith(DOUBT) and not is_no_finding(name))

    def parse(self, text: str, classes: Sequence[str]) -> Label:
        """Return a label that is written as ``edema|?mass``."""
        label = [ABSENT] * len(classes)
        for part in filter(None, (part.strip() for part in text.split(SEPARATOR))):
            if not is_no_finding(part):
                label[list(classes).index(part.removeprefix(DOUBT))] = UNKNOWN if part.startswith(DOUBT) else PRESENT
        return tuple(label)

    def text(self, label: Label, classes: Sequence[str]) -> str:
        """Return the findings of a label, with a question mark before what is unknown."""
        marks = {PRESENT: "", UNKNOWN: DOUBT}
        named = [marks[v] + name for name, v in zip(classes, label, strict=True) if v != ABSENT]
        return SEPARATOR.join(named) or NO_FINDING

    def unlearnable(self, labels: Sequence[Label], classes: Sequence[str]) -> str:
        """Return the first finding that all or none of the cases have, in words; empty if there is none."""
        values = _array(labels, classes)
        for column, name in zip(values.T, classes, strict=True):
            for value, word in ((PRESENT, "has"), (ABSENT, "is known to lack")):
                if not (column == value).any():
                    return f"no image {word} '{name}'"
        return ""


MULTI_LABEL = MultiLabel()
"""The task of findings that may occur together."""


def is_no_finding(name: str) -> bool:
    """Return whether a label says that there is no finding, such as ``No Finding``.

    Examples:
        >>> is_no_finding("No Finding"), is_no_finding("no_findings"), is_no_finding("mass")
        (True, True, False)
    """
    return name.strip().lower().replace("_", " ").rstrip("s") == "no finding"


def _array(labels: Sequence[Label], classes: Sequence[str]) -> np.ndarray:
    return np.asarray(labels, dtype=np.int8).reshape(-1, len(classes))
