"""A run's model behind the service, in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shpeft.evaluation import DecisionRules, ThresholdRule
from shpeft.pipeline import set_decision_rules
from shpeft.runs import RunFolder
from shpeft.service.worker import Worker


@pytest.fixture(scope="module")
def worker(tiny_run: Path) -> Iterator[Worker]:
    folder = RunFolder.open(tiny_run)
    set_decision_rules(folder, DecisionRules(ThresholdRule("exudates")))
    made = Worker(folder, "cpu")
    yield made
    made.executor.shutdown()
