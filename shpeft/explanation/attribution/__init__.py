"""Weight attribution: what each trained weight does to one image's logit, and how the result follows the strength λ."""

from shpeft.explanation.attribution.result import LayerAttribution, SingleWeight, WeightAttribution
from shpeft.explanation.attribution.strength import STRENGTHS, StrengthCurve, strength_curve
from shpeft.explanation.attribution.weights import STEPS, attribute_weights, expected_seconds

__all__ = [
    "STEPS",
    "STRENGTHS",
    "LayerAttribution",
    "SingleWeight",
    "StrengthCurve",
    "WeightAttribution",
    "attribute_weights",
    "expected_seconds",
    "strength_curve",
]
