"""Compare ways to fine-tune: fill a table of arms × seeds × datasets × budgets, and report what it shows."""

from shpeft.compare.cells import Cell, list_cells
from shpeft.compare.plan import Plan
from shpeft.compare.report.write import write_overlaps, write_report
from shpeft.compare.running.estimate import estimate_costs, slow_precision
from shpeft.compare.running.memory import measure_memory
from shpeft.compare.running.runner import matching_cells, run
from shpeft.compare.table import Table

__all__ = [
    "Cell",
    "Plan",
    "Table",
    "estimate_costs",
    "list_cells",
    "matching_cells",
    "measure_memory",
    "run",
    "slow_precision",
    "write_overlaps",
    "write_report",
]
