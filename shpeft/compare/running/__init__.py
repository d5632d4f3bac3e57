"""Run the cells of a comparison: train each arm on each task, and store the results."""
