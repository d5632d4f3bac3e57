"""Run a backbone on the images of a split, with or without cached features of the frozen blocks."""
