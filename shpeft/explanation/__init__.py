"""Explain one image: saliency over its pixels, attribution to the trained weights, and the shortcut check."""
