"""Runs in the background: queues, engines that carry runs out, and what pages see of them."""

from shpeft.jobs.engines import Engine, engine_named
from shpeft.jobs.job_manager import JobManager, manager

__all__ = ["Engine", "JobManager", "engine_named", "manager"]
