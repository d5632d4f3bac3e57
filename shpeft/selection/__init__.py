"""Select k weights by their scores, rank them for every budget, and compare supports."""
