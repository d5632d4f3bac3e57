"""Fully fine-tuned weights on the disk, whose changes other arms revert or select by."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.compare.arm import Rate
from shpeft.compare.cells import Cell
from shpeft.compare.running.baselines import DenseTuner
from shpeft.compare.table import Record, Table
from shpeft.equations import Norm, task_agnostic
from shpeft.errors import RunError
from shpeft.importance.scores import Scores
from shpeft.support.atomic_files import write_atomic


def chosen_rate(cell: Cell, table: Table) -> Rate | None:
    """Return the rates that a finished cell with the same trials has; None if they are still to be chosen."""
    return rate_of(cell, table.cells())


def rate_of(cell: Cell, finished: Mapping[str, Record]) -> Rate | None:
    """Return the same of finished cells by key; one that failed before any training has chosen none of several."""
    records = [finished[c.key] for c in cell.tuned_alike if c.key in finished]
    chosen = next((record for record in records if "lr" in record), None)
    if chosen is not None:
        return Rate(chosen["lr"], chosen.get("head_lr"))
    rates = cell.plan.rates(cell.plan.arms[cell.arm], cell.budget) if records else ()
    return rates[0] if len(rates) == 1 else None


class DenseWeights:
    """The weights of finished full fine-tunings of a table."""

    def __init__(self, table: Table):
        self._table = table

    def path(self, cell: Cell, rate: Rate) -> Path:
        """Return the path of the weights that a cell of kind full had after training, the head's among them."""
        return self._table.cached(f"dense-{cell.trial_key(rate)}.safetensors")

    def write(self, cell: Cell, rate: Rate, dense: DenseTuner) -> None:
        """Write the weights of a cell."""
        tensors = {name: p.detach().contiguous() for name, p in dense.trained.items()}
        write_atomic(self.path(cell, rate), safetensors.torch.save(tensors))

    def read(self, cell: Cell) -> dict[str, Tensor]:
        """Return the weights of a cell of kind full, with the learning rates that the table chose for it.

        Raises:
            RunError: they are not on the disk.
        """
        rate = chosen_rate(cell, self._table)
        if rate is None or not (path := self.path(cell, rate)).exists():
            raise RunError(
                f"The weights of {cell.title} are not in the cache of {self._table.folder}: its training is not "
                "finished, or diverged, or the cache was emptied. Run `shpeft compare` again, which trains it."
            )
        return safetensors.torch.load_file(path)

    def has_changed(self, cell: Cell, backbone: Backbone) -> bool:
        """Return whether a cell of kind full has another weight than the backbone, the head aside.

        Raises:
            RunError: its weights are not on the disk.
        """
        tensors, base = self.read(cell), backbone.parameters
        names = (info.name for info in backbone.weight_infos() if info.name in tensors)
        return any(not torch.equal(tensors[name].float(), base[name].detach().float().cpu()) for name in names)

    def changes(self, cell: Cell, backbone: Backbone, norm: Norm = "l1", scope: str = "all") -> Scores:
        """Return |Δw| or Δw² of a cell of kind full as scores; 0 for weights that it did not train.

        Args:
            backbone: has the pretrained weights θ0; Δw = θ − θ0.
            norm: ``l1`` or ``l2``.
            scope: of the weights that are scored, see ``Backbone.weight_infos``.

        Raises:
            RunError: its weights are not on the disk.
        """
        tensors, infos, values = self.read(cell), backbone.weight_infos(scope), dict[str, Tensor]()
        for info in infos:
            base = backbone.parameters[info.name].detach().float().cpu()
            change = tensors[info.name].float() - base if info.name in tensors else torch.zeros(info.shape)
            values[info.name] = task_agnostic(change, norm).contiguous()
        return Scores("change", values, infos, backbone.weight_count)
