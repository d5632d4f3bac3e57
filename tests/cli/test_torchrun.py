"""Processes that ``torchrun`` starts train one run, and finish it where one of them is killed at any instant."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shpeft import pipeline
from shpeft.backbones import create_backbone
from shpeft.cli.teams import check_restartable, restarted_run
from shpeft.config import RunConfig
from shpeft.delta.file import load_delta
from shpeft.errors import ConfigError, RunError
from shpeft.runs import RunFolder, temporary_run
from shpeft.support.team import Team
from tests.helpers.teams import in_team

FULL = os.environ.get("RELIABILITY") == "full"
"""Whether ``make reliability`` runs: a kill takes half a minute."""

CONFIG = RunConfig.parse(
    {
        "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
        "dataset": {"source": "phantom:fundus?n=36&size=32"},
        "selection": {"budget": 40, "images": 16},
        "training": {"epochs": 8, "batch_size": 8, "lr": 0.01},
        "device": "cpu",
    }
)

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")


def trained(root: Path) -> RunFolder:
    """Return the finished run of two threads that nothing interrupts."""

    def work(team: Team) -> None:
        if team.leads:
            folder = RunFolder.create(root / "whole", CONFIG)
            assert pipeline.run(CONFIG, folder, team=team)["weights"]["selected"] == 40
            return
        with temporary_run(CONFIG) as folder:
            assert pipeline.run(CONFIG, folder, team=team) == {}

    in_team(2, work)
    return RunFolder.open(root / "whole")


def launch(root: Path, processes: int = 2) -> "subprocess.Popen[str]":
    (root / "run.yaml").write_text(CONFIG.to_yaml())
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(processes),
        "--max-restarts",
        "3",
    ]
    launcher += ["--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    command = ["-m", "shpeft", "finetune", "--config", str(root / "run.yaml"), "--out", str(root / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launcher, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def pid_of(rank: int, launcher: int) -> int | None:
    """Return the process of this rank that a launcher has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == launcher and b"RANK=%d" % rank in variables:
            return int(folder.name)
    return None


def before_the_first_checkpoint(run: Path) -> bool:
    return (run / "environment.json").exists() and not (run / "checkpoint").exists()


def within_an_epoch(run: Path) -> bool:
    return len(list((run / "checkpoint").glob("last.safetensors"))) > 0


def while_writing(run: Path) -> bool:
    return any((run / "checkpoint").glob(".*.tmp")) if (run / "checkpoint").exists() else False


KILLS = [
    (rank, instant) for instant in (within_an_epoch, before_the_first_checkpoint, while_writing) for rank in (1, 0)
]


@pytest.mark.skipif(not FULL, reason="RELIABILITY=full kills processes")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("rank", "instant"), KILLS)
def test_a_killed_process_is_started_again_and_the_run_ends_the_same(
    tmp_path: Path, rank: int, instant: Callable[[Path], bool]
) -> None:
    with launch(tmp_path) as process:
        deadline, victim = time.monotonic() + 300, None
        while process.poll() is None and time.monotonic() < deadline:
            if instant(tmp_path / "run") and (victim := pid_of(rank, process.pid)) is not None:
                os.kill(victim, signal.SIGKILL)
                break
            time.sleep(0.0005 if instant is while_writing else 0.02)
        output, _ = process.communicate(timeout=300)
    assert victim is not None, f"nothing was killed: {output[-3000:]}"
    assert process.returncode == 0, output[-5000:]
    run, whole = RunFolder.open(tmp_path / "run"), trained(tmp_path)
    assert run.state.status == "finished"
    assert [r.epoch for r in run.history.read()] == list(range(9))
    base = create_backbone(**CONFIG.backbone.model_dump(), classes=run.predictions.test().classes, seed=CONFIG.seed)
    delta, expected = load_delta(run.delta_path, base), load_delta(whole.delta_path, base)
    assert {n: i.tolist() for n, i in delta.support.indices.items()} == {
        n: i.tolist() for n, i in expected.support.indices.items()
    }
    assert bool(expected.values.any())
    torch.testing.assert_close(delta.values, expected.values, rtol=0, atol=1e-5)
    torch.testing.assert_close(delta.head.weight, expected.head.weight, rtol=0, atol=1e-5)


def test_a_restart_goes_on_only_with_its_own_unfinished_run(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", CONFIG)
    assert restarted_run(tmp_path / "run", CONFIG).name == "run"
    other = CONFIG.model_copy(update={"seed": 1})
    with pytest.raises(RunError, match="another run"):
        restarted_run(tmp_path / "run", other)
    folder.state.change("failed", message="The loss became nan.")
    with pytest.raises(RunError, match=r"failed: nothing is started again. The loss became nan\."):
        restarted_run(tmp_path / "run", CONFIG)


def test_a_restart_must_find_its_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    check_restartable(named=False)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    check_restartable(named=True)
    with pytest.raises(ConfigError, match="Name its folder"):
        check_restartable(named=False)
