"""Attacks on the whole program: kills, hostile and damaged files, planted names, many sessions."""
