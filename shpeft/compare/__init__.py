"""Comparing ways to fine-tune: arms × seeds × datasets × budgets become a table, and the table a verdict."""

from shpeft.compare.plan import Cell, Plan
from shpeft.compare.runner import run
from shpeft.compare.table import Table

__all__ = ["Cell", "Plan", "Table", "run"]
