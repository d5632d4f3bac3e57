"""Saliency: which pixels a class's logit is sensitive to, by Captum's methods, and the map over its image."""

from shpeft.saliency.explaining import Saliency, explain
from shpeft.saliency.localisation import Localisation, area_share, localise, mass_in_mask, pointing_hit
from shpeft.saliency.methods import DEFAULT, METHODS, Method, check_method
from shpeft.saliency.overlay import HUE, Map, ceiling, levels, normalised, overlay
from shpeft.saliency.pace import Pace
from shpeft.saliency.sanity import Sanity, check_saliency

__all__ = [
    "DEFAULT",
    "HUE",
    "METHODS",
    "Localisation",
    "Map",
    "Method",
    "Pace",
    "Saliency",
    "Sanity",
    "area_share",
    "ceiling",
    "check_method",
    "check_saliency",
    "explain",
    "levels",
    "localise",
    "mass_in_mask",
    "normalised",
    "overlay",
    "pointing_hit",
]
