"""Analyze the stored cells of a comparison: intervals, paired differences, overlap and hypotheses."""
