"""Attribution: what each trained weight did to one image's logit, and how its probabilities follow the strength λ."""

from shpeft.attribution.result import LayerAttribution, SingleWeight, WeightAttribution
from shpeft.attribution.strength import STRENGTHS, StrengthCurve, strength_curve
from shpeft.attribution.weights import STEPS, attribute_weights, expected_seconds

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
