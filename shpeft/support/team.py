"""The processes that train one run together, each on its share of the images, by ``torch.distributed``."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shpeft.errors import Cancelled, Interrupted, ShpeftError, TrainingError

if TYPE_CHECKING:
    from torch import Tensor

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""The environment variables by which ``torchrun`` says who the process is."""

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others, for instance while the first one fits the linear probe."""


class Team:
    """The processes of one run. ``Team()`` is a process alone: every method is the identity and imports nothing.

    Attributes:
        rank: the number of this process, from 0.
        size: the number of processes.
        attempt: how often the launcher has started the team again.
        bytes_summed: the size of everything that ``sum`` has summed so far.

    Examples:
        >>> from shpeft.support.team import Team
        >>> team = Team()
        >>> team, team.leads, team.tell(lambda: b"a seed")
        (Team(1 of 1), True, b'a seed')
    """

    def __init__(self, rank: int = 0, size: int = 1, *, group: Any = None, store: Any = None, attempt: int = 0) -> None:
        """Describe a process.

        Args:
            rank: the number of this process.
            size: the number of processes.
            group: the process group of ``torch.distributed``; None for a process alone.
            store: its key-value store, through which a process leaves the reason why it ends.
            attempt: how often the launcher has started the team again.
        """
        self.rank, self.size, self.attempt = rank, size, attempt
        self.bytes_summed = 0
        self._group, self._store = group, store

    def __repr__(self) -> str:
        return f"Team({self.rank + 1} of {self.size})"

    @property
    def leads(self) -> bool:
        """Whether this process decides and writes for all: the first one does."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    @classmethod
    @contextmanager
    def join(cls) -> Iterator["Team"]:
        """Join the team that the environment describes, as under ``torchrun``; a process alone without one.

        At the end all wait for each other. Where a process fails, the others learn the reason and end, too.

        Raises:
            TrainingError: another process failed; the message is its message.
            Interrupted: another process is gone.
        """
        if any(name not in os.environ for name in VARIABLES) or os.environ["WORLD_SIZE"] == "1":
            yield cls()
            return
        import torch
        from torch import distributed

        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        server = distributed.TCPStore(  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            size,
            is_master=rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
            timeout=PATIENCE,
        )
        # The launcher's store outlives an attempt and would hand out the addresses of processes that are gone.
        store = distributed.PrefixStore(f"attempt {attempt}", server)  # type: ignore[attr-defined]
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE
        )
        team = cls(rank, size, group=distributed.group.WORLD, store=store, attempt=attempt)
        try:
            yield team
            team.wait()
        except BaseException as error:
            team.leave(error)
            raise
        finally:
            if not cuda:  # NCCL waits for what a peer that is gone will never send; the process ends anyway
                distributed.destroy_process_group()

    def sum(self, tensor: "Tensor") -> "Tensor":
        """Sum a tensor of the same shape over all processes, in place; all get the same bits.

        Raises:
            TrainingError, Interrupted: see ``join``.
        """
        if not self.alone:
            dense = tensor.contiguous()
            self._finish(lambda: self._group.allreduce([dense]))
            self.bytes_summed += dense.nbytes
            if dense is not tensor:
                tensor.copy_(dense)
        return tensor

    def tell(self, compute: Callable[[], bytes]) -> bytes:
        """Return what ``compute`` returns in the first process, which alone calls it.

        Raises:
            TrainingError, Interrupted: see ``join``.
        """
        if self.alone:
            return compute()
        import torch

        content = compute() if self.leads else b""
        length = torch.tensor([len(content)])
        self._finish(lambda: self._group.broadcast([length]))
        if not length:
            return b""
        data = torch.frombuffer(bytearray(content or int(length)), dtype=torch.uint8)
        self._finish(lambda: self._group.broadcast([data]))
        return data.numpy().tobytes()

    def agree(self, compute: Callable[[], Mapping[str, "Tensor"]]) -> dict[str, "Tensor"]:
        """Return the tensors that ``compute`` returns in the first process, which alone calls it; on the CPU.

        Raises:
            TrainingError, Interrupted: see ``join``.
        """
        if self.alone:
            return dict(compute())
        from safetensors.torch import load, save

        return load(self.tell(lambda: save({name: t.contiguous() for name, t in compute().items()})))

    def assemble(self, rows: Sequence[int], parts: "Sequence[Tensor]", count: int) -> "Tensor":
        """Return the rows of all processes as one tensor (count, ...), in every process.

        Args:
            rows: the positions of this process's rows, in the order of ``parts``; no other process has them.
            parts: its rows, in one or more tensors on the CPU; none where it has no row, which never is the first.
            count: of the rows of all processes.

        Raises:
            TrainingError, Interrupted: see ``join``.
        """
        import torch

        if self.alone:
            return torch.cat(list(parts))
        form = self.agree(lambda: {"form": torch.zeros(0, *parts[0].shape[1:], dtype=parts[0].dtype)})["form"]
        whole = form.new_zeros(count, *form.shape[1:])
        if rows:
            whole[torch.tensor(rows)] = torch.cat(list(parts))
        return self.sum(whole)

    def wait(self) -> None:
        """Wait until all processes have come here.

        Raises:
            TrainingError, Interrupted: see ``join``.
        """
        if not self.alone:
            self._finish(lambda: self._group.barrier())

    def leave(self, error: BaseException) -> None:
        """Leave the reason why this process ends to the others, which see its connection close."""
        if self._store is not None and not isinstance(error, Interrupted):
            known = isinstance(error, ShpeftError | Cancelled)
            reason = str(error) if known else f"{type(error).__name__} in process {self.rank}: {error}"
            with suppress(RuntimeError):
                self._store.set("end", ("cancelled" if isinstance(error, Cancelled) else f"failed {reason}").encode())

    def _finish(self, begin: Callable[[], Any]) -> None:
        try:
            begin().wait()
        except RuntimeError:  # a connection that is closed
            raise self._reason() from None

    def _reason(self) -> Exception:
        """Return why another process has ended."""
        with suppress(RuntimeError):
            if self._store is not None and self._store.check(["end"]):
                reason = bytes(self._store.get("end")).decode()
                return Cancelled() if reason == "cancelled" else TrainingError(reason.removeprefix("failed "))
        return Interrupted(f"One of the {self.size} processes that train together is gone. Resume the run.")


ALONE = Team()
"""The team of a process without others."""
