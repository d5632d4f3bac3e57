"""Runs on a cluster of two computers, one of which is lost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shpeft.config.schema import RunConfig
from shpeft.jobs import JobManager, engine_named
from shpeft.runs import RunFolder
from tests.helpers.app_pages import TINY
from tests.helpers.background_jobs import epochs, until, until_ended

ray = pytest.importorskip("ray", reason="needs the extra ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, and its sockets that end with the test

LONG = RunConfig.parse(TINY | {"training": {"epochs": 1000, "batch_size": 8}, "device": "cpu"})


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # 15 by default: beside other work, a test would wait for minutes
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def manager(cluster: Any, tmp_path: Path) -> Iterator[JobManager]:
    manager = JobManager(tmp_path, engine=engine_named("ray"))
    yield manager
    manager.shutdown()


def test_a_run_outlives_the_computer_that_carried_it_out(cluster: Any, manager: JobManager, tmp_path: Path) -> None:
    lost = cluster.add_node(num_cpus=1)
    run = manager.submit(LONG)
    until(lambda: epochs(manager, run) >= 2)
    waiting = manager.submit(RunConfig.parse(TINY | {"device": "cpu"}))
    until(lambda: manager.snapshot(waiting).stage == "Waiting for a computer of the cluster")
    cluster.add_node(num_cpus=1)
    assert until_ended(manager, waiting).status == "finished"
    before = epochs(manager, run)
    cluster.remove_node(lost, allow_graceful=False)
    until(lambda: epochs(manager, run) > before + 1)
    manager.stop(run)
    stopped = until_ended(manager, run)
    assert stopped.status == "finished"
    assert "Stopped after epoch" in stopped.message
    history = [report.epoch for report in RunFolder.open(tmp_path / run).history.read()]
    assert history == list(range(len(history)))  # no epoch twice, none left out


def test_a_discarded_run_ends_on_its_computer(cluster: Any, manager: JobManager, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1)
    run = manager.submit(LONG)
    until(lambda: epochs(manager, run) >= 1)
    manager.discard(run)
    until(lambda: not (tmp_path / run).exists())
    following = manager.submit(RunConfig.parse(TINY | {"device": "cpu"}))
    assert until_ended(manager, following).status == "finished"  # the computer is free again
