"""Saliency: the pixels to which a class's logit is sensitive, and checks of the maps."""

from shpeft.explanation.saliency.checked import CheckedSaliency, check_map, explain_and_check
from shpeft.explanation.saliency.cost import PassTime
from shpeft.explanation.saliency.localization import Localization, area_share, localize, mass_in_mask, pointing_hit
from shpeft.explanation.saliency.methods import METHODS, Method, check_method, default_method, supported_methods
from shpeft.explanation.saliency.overlay import HUE, Map, full_scale, normalize, opacity_map, overlay, to_uint8
from shpeft.explanation.saliency.saliency_map import Saliency, explain
from shpeft.explanation.saliency.sanity import Sanity, check_saliency

__all__ = [
    "CheckedSaliency",
    "HUE",
    "Localization",
    "METHODS",
    "Map",
    "Method",
    "PassTime",
    "Saliency",
    "Sanity",
    "area_share",
    "check_map",
    "check_method",
    "check_saliency",
    "default_method",
    "explain",
    "explain_and_check",
    "full_scale",
    "localize",
    "mass_in_mask",
    "normalize",
    "opacity_map",
    "overlay",
    "pointing_hit",
    "supported_methods",
    "to_uint8",
]
