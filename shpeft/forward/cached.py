"""The frozen blocks below the earliest selected weight: run once an image, and never again.

A backbone is cut in front of a block. ``Cut.encode`` runs it up to there and stops; ``Cut.resume`` runs it from there:
the modules below the cut return placeholders, and the block gets the stored features instead of them. That fits any
model whose data all pass through the block's input, and whether a model is one is not assumed but tried: a cut whose
logits differ in a single bit from the whole model's is refused.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shpeft.backbones import Backbone
from shpeft.datasets import Split, batches
from shpeft.errors import CannotCut, SelectionError
from shpeft.feed import Feed, Precision
from shpeft.files import write_atomic

MEMORY = 2**30
"""Bytes of features that are held in memory; what is beyond is mapped from files."""

DISK = 64 * 2**30
"""Bytes of features in files, at most; half of what is free is the other bound."""


class Cut:
    """A backbone in two parts, in front of a block.

    Attributes:
        block: the dotted name of the first module of the second part.
    """

    def __init__(self, backbone: Backbone, block: str):
        """Finds out which modules run before the block, and tries the cut.

        Raises:
            CannotCut: the parts do not make the whole.
        """
        self.backbone, self.block = backbone, block
        self._entry = backbone.module.get_submodule(block)
        size, weight = backbone.image_size, backbone.head.weight
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(3, 3, size, size, generator=generator).to(weight.device, weight.dtype)
        with torch.no_grad():
            self._placeholders = self._below(images[:1])
            whole = backbone(images)
            joined = self.resume(self.encode(images))
        if not torch.equal(whole, joined):
            raise self._refusal("its two parts give other logits than the whole")

    def encode(self, inputs: Tensor) -> Tensor:
        """The block's input (B, ...) for model inputs (B, 3, S, S)."""

        def stop(_: nn.Module, args: tuple[Any, ...]) -> None:
            raise _Reached(args[0])

        handle = self._entry.register_forward_pre_hook(stop)
        try:
            self.backbone(inputs)
        except _Reached as reached:
            return reached.features
        finally:
            handle.remove()
        raise self._refusal("it is never called")

    def resume(self, features: Tensor) -> Tensor:
        """Logits (B, C) from the block's input."""
        batch = len(features)
        size, weight = self.backbone.image_size, self.backbone.head.weight
        blank = torch.zeros((), device=weight.device, dtype=weight.dtype).expand(batch, 3, size, size)

        def enter(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return features, *args[1:]

        with ExitStack() as stack:
            stack.callback(self._entry.register_forward_pre_hook(enter).remove)
            for child, output in self._placeholders:
                stack.callback(child.__dict__.pop, "forward", None)
                child.forward = lambda *_, output=output, **__: output.expand(batch, *output.shape[1:])
            return self.backbone(blank)

    def _below(self, images: Tensor) -> list[tuple[nn.Module, Tensor]]:
        """The outermost modules that are done before the block begins, each with an output of the shape of its own."""
        active: list[nn.Module] = []
        done: list[tuple[nn.Module, nn.Module | None, Any]] = []
        outer: list[tuple[nn.Module, Any]] = []
        entries, later = [0], set[nn.Module]()

        def before(child: nn.Module, _: Any) -> None:
            if child is self._entry:
                entries[0] += 1
                running = {None, *active}
                outer.extend((module, output) for module, caller, output in done if caller in running)
            elif entries[0]:
                later.add(child)
            active.append(child)

        def after(child: nn.Module, _: Any, output: Any) -> None:
            active.pop()
            if not entries[0]:
                done.append((child, active[-1] if active else None, output))

        with ExitStack() as stack:
            for child in self.backbone.module.modules():
                stack.callback(child.register_forward_pre_hook(before).remove)
                stack.callback(child.register_forward_hook(after).remove)
            self.backbone(images)
        if entries[0] != 1:
            raise self._refusal(f"it is called {entries[0]} times")
        return [
            (child, torch.zeros((), device=output.device, dtype=output.dtype).expand(output.shape))
            for child, output in outer
            if isinstance(output, Tensor) and output.shape[:1] == (1,) and child not in later
        ]

    def _refusal(self, reason: str) -> CannotCut:
        return CannotCut(f"{self.backbone.name} cannot be cut in front of {self.block}: {reason}.")


class _Reached(Exception):
    def __init__(self, features: Tensor):
        self.features = features


def cut_below(backbone: Backbone, names: Iterable[str]) -> Cut | None:
    """A cut in front of the earliest block that holds one of these parameters; None where nothing lies below it.

    Raises:
        CannotCut: the backbone cannot be cut there.
    """
    infos = backbone.weight_infos()
    wanted = set(names)
    first = min((info for info in infos if info.name in wanted), key=lambda info: info.depth)
    stands_inside = first.name.startswith(first.block + ".")
    below = any(info.is_matrix and info.depth < first.depth for info in infos)
    return Cut(backbone, first.block) if stands_inside and below else None


class CachedFeed(Feed):
    """Features of the frozen prefix, computed when an image is first asked for, and the rest of the backbone.

    Each way to see an image (as it is, mirrored) has features of its own. They are held in memory up to ``MEMORY``,
    then in files of ``folder``; where neither has room, the prefix runs each time. Blocks must not be run again in the
    backward pass (gradient checkpointing): they would not meet their features there.
    """

    def __init__(self, cut: Cut, folder: Path | None = None, precision: Precision = "float32"):
        """``folder``: where features may be kept in files; None: in memory only."""
        super().__init__(cut.backbone, precision)
        self.cut, self._folder = cut, folder
        self._held: dict[str, _Features | None] = {}
        self._bytes = 0
        size = self.backbone.image_size
        self._one = self._encode(torch.zeros(1, 3, size, size, dtype=torch.uint8))[0]

    def batches(
        self,
        split: Split,
        batch_size: int,
        *,
        order: Sequence[int] | None = None,
        mirrored: Sequence[bool] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Features at the cut and labels (B,); see ``Feed.batches``."""
        rows = list(range(len(split)) if order is None else order)
        views = [False] * len(rows) if mirrored is None else list(mirrored)
        for start in range(0, len(rows), batch_size):
            chunk, flips = rows[start : start + batch_size], views[start : start + batch_size]
            target = torch.tensor([split.labels[row] for row in chunk], dtype=torch.int64)
            yield self.send(self._features(split, chunk, flips)), self.send(target)

    def run(self, inputs: Tensor) -> Tensor:
        """The blocks from the cut on."""
        return self.cut.resume(inputs)

    def check(self, names: Iterable[str]) -> None:
        """Refuse to train parameters of the prefix: their gradient would be lost.

        Raises:
            SelectionError: one of them lies below the cut.
        """
        depths = {info.name: info.depth for info in self.backbone.weight_infos()}
        at = min(depth for name, depth in depths.items() if name.startswith(self.cut.block + "."))
        low = [name for name in names if depths[name] < at]
        if low:
            raise SelectionError(
                f"{low[0]} lies below {self.cut.block}, whose input is cached. Cut in front of an earlier block, or "
                "train without cached features."
            )

    def close(self) -> None:
        """Forget all features and delete their files: they are derived from patients' images."""
        self._held, self._bytes = {}, 0
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _features(self, split: Split, rows: list[int], flips: list[bool]) -> Tensor:
        """(B, ...) on the processor."""
        out = torch.empty(len(rows), *self._one.shape, dtype=self._one.dtype)
        for flip in sorted(set(flips)):
            at = [position for position, flipped in enumerate(flips) if flipped == flip]
            wanted = [rows[position] for position in at]
            held = self._hold(split, flip)
            if held is None:
                out[at] = self._encode_rows(split, wanted, flip)
                continue
            missing = [row for row in dict.fromkeys(wanted) if not held.known[row]]
            if missing:
                held.put(missing, self._encode_rows(split, missing, flip))
            out[at] = held.values[wanted]
        return out

    def _encode_rows(self, split: Split, rows: list[int], flip: bool) -> Tensor:
        [(images, _)] = batches(split, self.backbone.transform, len(rows), order=rows)
        return self._encode(images.flip(-1) if flip else images)

    @torch.no_grad()
    def _encode(self, images: Tensor) -> Tensor:
        with self.autocast():
            return self.cut.encode(self.normalise(images)).cpu()

    def _hold(self, split: Split, flip: bool) -> "_Features | None":
        """Where the features of this view of a split are held; None where there is no room."""
        key = self._key(split, flip)
        if key not in self._held:
            need = self._one.nbytes * len(split)
            if self._bytes + need <= MEMORY:
                self._bytes += need
                self._held[key] = _Features(self._one, len(split))
            elif self._folder is not None and need <= min(DISK, _free(self._folder) // 2):
                self._held[key] = _Features(self._one, len(split), self._folder / key)
            else:
                self._held[key] = None
        return self._held[key]

    def _key(self, split: Split, flip: bool) -> str:
        """Changes with whatever changes a feature: base weights, cut, transform, precision, images, view, PyTorch."""
        backbone = self.backbone
        parts = [
            backbone.fingerprint,
            self.cut.block,
            backbone.transform.to_dict(),
            self.precision,
            split.fingerprint,
            flip,
            torch.__version__,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class _Features:
    """Features by case, and which of them are known; in memory, or mapped from a file that a later run can take up."""

    def __init__(self, one: Tensor, count: int, path: Path | None = None):
        self._path = path
        shape = (count, *one.shape)
        if path is None:
            self.known = torch.zeros(count, dtype=torch.bool)
            self.values = torch.empty(shape, dtype=one.dtype)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.known = torch.full((count,), path.with_suffix(".complete").exists())
            self.values = torch.from_file(str(path), shared=True, size=count * one.numel(), dtype=one.dtype).view(shape)

    def put(self, rows: list[int], values: Tensor) -> None:
        """Keep the features of some cases; a file counts once all are known and on the disk."""
        self.values[rows] = values
        self.known[rows] = True
        if self._path is not None and bool(self.known.all()):
            with self._path.open("rb+") as file:
                os.fsync(file.fileno())
            write_atomic(self._path.with_suffix(".complete"), b"")


def _free(folder: Path) -> int:
    """Free bytes where a folder is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
