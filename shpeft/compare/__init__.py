"""Comparing ways to fine-tune: arms × seeds × datasets × budgets become a table, and the table a verdict."""

from shpeft.compare.memory import measure_memory
from shpeft.compare.plan import Cell, Plan
from shpeft.compare.runner import run
from shpeft.compare.table import Table
from shpeft.compare.writing import write_overlaps, write_report

__all__ = ["Cell", "Plan", "Table", "measure_memory", "run", "write_overlaps", "write_report"]
