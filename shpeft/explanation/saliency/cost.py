"""Estimate the run time of an explanation: its number of passes times the measured time of one pass."""

import time
from dataclasses import dataclass

import torch

from shpeft.backbones import Backbone
from shpeft.explanation.saliency.methods import METHODS, check_method
from shpeft.explanation.saliency.sanity import EXPLANATIONS, FORWARD_PASSES

FEWEST_TURNS, MOST_TURNS, ENOUGH_SECONDS = 3, 12, 0.5
"""Timed passes after a warm-up: after the fewest, no more begin once this time is over. The fastest counts, since other
load only slows a pass down."""


@dataclass(frozen=True)
class PassTime:
    """Seconds of one image's forward pass, and of its forward and backward pass down to the pixels."""

    forward: float
    backward: float

    @classmethod
    def measure(cls, backbone: Backbone) -> "PassTime":
        """Time a few passes of a blank image; the backbone is unchanged."""
        weight = backbone.head.weight
        forward, backward = [], []
        with backbone.frozen(), torch.inference_mode(False), torch.enable_grad():
            inputs = torch.zeros(1, *backbone.input_shape, device=weight.device, dtype=weight.dtype, requires_grad=True)
            first = time.perf_counter()
            for turn in range(1 + MOST_TURNS):
                began = time.perf_counter()
                if turn > FEWEST_TURNS and began - first > ENOUGH_SECONDS:
                    break
                logit = backbone(inputs)[0, 0]
                logit.item()  # waits for the GPU
                middle = time.perf_counter()
                torch.autograd.grad(logit, inputs)[0].sum().item()
                forward.append(middle - began)
                backward.append(time.perf_counter() - began)
        return cls(min(forward[1:]), min(backward[1:]))

    def explanation(self, method: str) -> float:
        """Estimate the seconds of :func:`explain` with this method.

        Raises:
            DiagnosisError: an unknown method.
        """
        check_method(method)
        chosen = METHODS[method]
        return chosen.backward * self.backward + (chosen.cost - chosen.backward) * self.forward

    def check(self, method: str) -> float:
        """Estimate the seconds of :func:`check_saliency` with this method."""
        return EXPLANATIONS * self.explanation(method) + FORWARD_PASSES * self.forward
