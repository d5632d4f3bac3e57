"""Saliency: which pixels a class's logit is sensitive to, by Captum's methods, and the map over its image."""

from shpeft.saliency.explain import Saliency, explain
from shpeft.saliency.localisation import Localisation, area_share, localise, mass_in_mask, pointing_hit
from shpeft.saliency.methods import METHODS, Method, check_method
from shpeft.saliency.overlay import HUE, Map, ceiling, normalised, overlay

__all__ = [
    "HUE",
    "METHODS",
    "Localisation",
    "Map",
    "Method",
    "Saliency",
    "area_share",
    "ceiling",
    "check_method",
    "explain",
    "localise",
    "mass_in_mask",
    "normalised",
    "overlay",
    "pointing_hit",
]
