"""How long an explanation will take, before it starts: its passes, counted, times the time of a pass here."""

import time
from dataclasses import dataclass

import torch

from shpeft.backbones import Backbone
from shpeft.saliency.methods import METHODS, check_method
from shpeft.saliency.sanity import EXPLANATIONS, FORWARD_PASSES

TURNS = 3
"""Timed passes, of which the quickest counts, after one to warm up: other work on the machine only makes it slower."""


@dataclass(frozen=True)
class Pace:
    """Seconds that one image takes: through the model, and through the model and back to the pixels."""

    forward: float
    backward: float

    @classmethod
    def measure(cls, backbone: Backbone) -> "Pace":
        """Time a few passes of an empty image; the backbone is left as it was."""
        size, weight = backbone.image_size, backbone.head.weight
        forward, backward = [], []
        with backbone.frozen(), torch.inference_mode(False), torch.enable_grad():
            image = torch.zeros(1, 3, size, size, device=weight.device, dtype=weight.dtype, requires_grad=True)
            for _ in range(TURNS + 1):
                start = time.perf_counter()
                logit = backbone(image)[0, 0]
                logit.item()  # waits for a graphics card
                middle = time.perf_counter()
                torch.autograd.grad(logit, image)[0].sum().item()
                forward.append(middle - start)
                backward.append(time.perf_counter() - start)
        return cls(min(forward[1:]), min(backward[1:]))

    def explanation(self, method: str) -> float:
        """Seconds of ``explain`` with this method.

        Raises:
            DiagnosisError: an unknown method.
        """
        check_method(method)
        wanted = METHODS[method]
        return wanted.backward * self.backward + (wanted.cost - wanted.backward) * self.forward

    def check(self, method: str) -> float:
        """Seconds of ``check_saliency`` with this method."""
        return EXPLANATIONS * self.explanation(method) + FORWARD_PASSES * self.forward
