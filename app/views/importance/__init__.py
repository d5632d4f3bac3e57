"""The Importance page."""
