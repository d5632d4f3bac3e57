"""Infrastructure without knowledge of models: files, progress, seeds, network, browser and formatting."""
