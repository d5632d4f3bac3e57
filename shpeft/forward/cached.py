"""Cache the features of the frozen blocks below the earliest selected weight: each image passes them once.

A backbone is split in front of a block. ``BackboneSplit.encode`` runs the blocks below the split and stops.
``BackboneSplit.resume`` runs the rest: the modules below return placeholders, and the block receives the stored
features. This fits any model in which all data pass through the block's input. The split is checked when it is made:
it is refused unless its logits equal the whole model's to the bit.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shpeft.backbones import Backbone
from shpeft.config.schema import Precision
from shpeft.datasets import Split, batches
from shpeft.errors import CannotSplit, SelectionError
from shpeft.forward.base import ForwardPass, Vary
from shpeft.support.atomic_files import write_atomic
from shpeft.support.team import ALONE, Team

MEMORY = 2**30
"""Bytes of features held in memory; further features are mapped from files."""

DISK = 64 * 2**30
"""Upper limit on bytes of features in files; half of the free disk space is another."""


class BackboneSplit:
    """A backbone in two parts, split in front of a block.

    Attributes:
        block: the dotted name of the first module of the second part.
    """

    def __init__(self, backbone: Backbone, block: str):
        """Find the modules that run before the block, and check the split.

        Raises:
            CannotSplit: the two parts give other logits than the whole, or the block is not called exactly once.
        """
        self.backbone, self.block = backbone, block
        self._entry = backbone.module.get_submodule(block)
        weight = backbone.head.weight
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(3, *backbone.input_shape, generator=generator).to(weight.device, weight.dtype)
        with torch.no_grad():
            self._placeholders = self._below(images[:1])
            whole = backbone(images)
            joined = self.resume(self.encode(images))
        if not torch.equal(whole, joined):
            raise self._refusal("its two parts give other logits than the whole")

    def __repr__(self) -> str:
        return f"BackboneSplit({self.backbone.name} in front of {self.block})"

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the block's input (B, ...) for model inputs (B, 3, H, W)."""

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
        """Return logits (B, C) from the block's input (B, ...)."""
        batch = len(features)
        weight = self.backbone.head.weight
        blank = torch.zeros((), device=weight.device, dtype=weight.dtype).expand(batch, *self.backbone.input_shape)

        def enter(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return features, *args[1:]

        with ExitStack() as stack:
            stack.callback(self._entry.register_forward_pre_hook(enter).remove)
            for child, output in self._placeholders:
                stack.enter_context(_returning(child, output.expand(batch, *output.shape[1:])))
            return self.backbone(blank)

    def _below(self, images: Tensor) -> list[tuple[nn.Module, Tensor]]:
        """Return the outermost modules that finish before the block, each with a placeholder for its output."""
        active: list[nn.Module] = []
        done: list[tuple[nn.Module, nn.Module | None, Any]] = []
        outer: list[tuple[nn.Module, Any]] = []
        entries, later = [0], set[nn.Module]()

        def before(child: nn.Module, _: Any) -> None:
            if child is self._entry:
                entries[0] += 1
                running = {None, *active}
                outer.extend((module, output) for module, caller, output in done if caller in running)  # outermost
            elif entries[0]:
                later.add(child)  # it runs above the split as well, so that it must not be replaced
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

    def _refusal(self, reason: str) -> CannotSplit:
        return CannotSplit(
            f"{self.backbone.name} cannot be split in front of {self.block}: {reason}. Train without cached features."
        )


@contextmanager
def _returning(child: nn.Module, output: Tensor) -> Iterator[None]:
    """Let a module return this output, whatever its input, instead of running."""
    child.forward = lambda *_, **__: output
    try:
        yield
    finally:
        with suppress(AttributeError):  # a module that is listed twice is restored once
            del child.forward


class _Reached(Exception):
    """Ends ``BackboneSplit.encode`` at the block."""

    def __init__(self, features: Tensor):
        self.features = features


def split_below(backbone: Backbone, names: Iterable[str]) -> BackboneSplit | None:
    """Split a backbone in front of the earliest block that holds one of these parameters.

    Returns:
        the split, or None if no block lies below it.

    Raises:
        CannotSplit: the backbone cannot be split there.
    """
    infos = backbone.weight_infos()
    trained = set(names)
    first = min((info for info in infos if info.name in trained), key=lambda info: info.depth)
    inside_block = first.name.startswith(first.block + ".")
    below = any(info.is_matrix and info.depth < first.depth for info in infos)
    return BackboneSplit(backbone, first.block) if inside_block and below else None


class CachedForward(ForwardPass):
    """Run the frozen prefix once per image, cache its features, and run the other blocks on them.

    An image and its mirrored view have features of their own. Up to ``MEMORY`` bytes are cached in memory, then in
    files of ``folder``; without room in either the prefix runs each time. Gradient checkpointing does not work here:
    blocks that run again in the backward pass would not receive the cached features.
    """

    def __init__(
        self,
        backbone_split: BackboneSplit,
        folder: Path | None = None,
        precision: Precision = "float32",
        team: Team = ALONE,
    ):
        """Start with an empty cache.

        Args:
            folder: where features may be cached in files; None: in memory only.
        """
        super().__init__(backbone_split.backbone, precision, team)
        self.backbone_split, self._folder = backbone_split, folder
        self._caches: dict[str, _FeatureCache | None] = {}
        self._bytes = 0
        self._example = self._encode(torch.zeros(1, 3, *self.backbone.transform.shape, dtype=torch.uint8))[0]

    def __repr__(self) -> str:
        views = sum(cache is not None for cache in self._caches.values())
        return (
            f"CachedForward({self.backbone.name} from {self.backbone_split.block}, {self.precision}, "
            f"{views} views of splits cached)"
        )

    def batches(
        self,
        split: Split,
        batch_size: int,
        *,
        order: Sequence[int] | None = None,
        mirrored: Sequence[bool] | None = None,
        vary: Vary | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield features at the split (B, ...) and labels (B, ...); see ``ForwardPass.batches``.

        Varied images are new each time: they pass the prefix, and their features are not cached.
        """
        if vary is not None:
            for inputs, target in super().batches(split, batch_size, order=order, mirrored=mirrored, vary=vary):
                with torch.no_grad(), self.autocast():
                    features = self.backbone_split.encode(inputs)
                yield features, target
            return
        rows = list(range(len(split)) if order is None else order)
        views = [False] * len(rows) if mirrored is None else list(mirrored)
        for first in range(0, len(rows), batch_size):
            chunk, flips = rows[first : first + batch_size], views[first : first + batch_size]
            target = split.task.target([split.labels[row] for row in chunk])
            yield self.to_device(self._features(split, chunk, flips)), self.to_device(target)

    def run(self, inputs: Tensor) -> Tensor:
        """Run the blocks above the split."""
        return self.backbone_split.resume(inputs)

    def check(self, names: Iterable[str]) -> None:
        """Check that none of these parameters lies in the frozen prefix, where it would get no gradient.

        Raises:
            SelectionError: one of them lies below the split.
        """
        depths = {info.name: info.depth for info in self.backbone.weight_infos()}
        at = min(depth for name, depth in depths.items() if name.startswith(self.backbone_split.block + "."))
        low = [name for name in names if depths[name] < at]
        if low:
            raise SelectionError(
                f"{low[0]} lies below {self.backbone_split.block}, whose input is cached. Split in front of an earlier "
                "block, or train without cached features."
            )

    def close(self) -> None:
        """Drop all features and delete their files, which are derived from patients' images."""
        self._caches, self._bytes = {}, 0
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _features(self, split: Split, rows: list[int], flips: list[bool]) -> Tensor:
        """Return the features (B, ...) of these rows on the CPU, encoding those that are not cached."""
        features = torch.empty(len(rows), *self._example.shape, dtype=self._example.dtype)
        for flip in sorted(set(flips)):
            at = [position for position, flipped in enumerate(flips) if flipped == flip]
            own_rows = [rows[position] for position in at]
            cache = self._cache(split, flip)
            if cache is None:
                features[at] = self._encode_rows(split, own_rows, flip)
                continue
            missing = [row for row in dict.fromkeys(own_rows) if not cache.known[row]]
            if missing:
                cache.put(missing, self._encode_rows(split, missing, flip))
            features[at] = cache.values[own_rows]
        return features

    def _encode_rows(self, split: Split, rows: list[int], flip: bool) -> Tensor:
        [(images, _)] = batches(split, self.backbone.transform, len(rows), order=rows)
        return self._encode(images.flip(-1) if flip else images)

    @torch.no_grad()
    def _encode(self, images: Tensor) -> Tensor:
        with self.autocast():
            return self.backbone_split.encode(self.normalize(images)).cpu()

    def _cache(self, split: Split, flip: bool) -> "_FeatureCache | None":
        """Return the cache of this view of a split; None if there is no room for it."""
        key = self._key(split, flip)
        if key not in self._caches:
            need = self._example.nbytes * len(split)
            if self._bytes + need <= MEMORY:
                self._bytes += need
                self._caches[key] = _FeatureCache(self._example, len(split))
            elif self._folder is not None and need <= min(DISK, _free(self._folder) // 2):
                self._caches[key] = _FeatureCache(self._example, len(split), self._folder / key)
            else:
                self._caches[key] = None
        return self._caches[key]

    def _key(self, split: Split, flip: bool) -> str:
        """Hash everything that a feature depends on."""
        backbone = self.backbone
        parts = [
            backbone.fingerprint,
            self.backbone_split.block,
            backbone.transform.to_dict(),
            self.precision,
            split.fingerprint,
            flip,
            torch.__version__,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class _FeatureCache:
    """The features of one view of a split, in memory or mapped from a file that a later run can reuse.

    Attributes:
        known: (N,) bool, which images are encoded.
        values: (N, ...) their features.
    """

    def __init__(self, example: Tensor, count: int, path: Path | None = None):
        self._path = path
        shape = (count, *example.shape)
        if path is None:
            self.known = torch.zeros(count, dtype=torch.bool)
            self.values = torch.empty(shape, dtype=example.dtype)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.known = torch.full((count,), path.with_suffix(".complete").exists())
            elements = count * example.numel()
            self.values = torch.from_file(str(path), shared=True, size=elements, dtype=example.dtype).view(shape)

    def put(self, rows: list[int], values: Tensor) -> None:
        """Store the features of these rows; a file is marked complete once all are known and on disk."""
        self.values[rows] = values
        self.known[rows] = True
        if self._path is not None and bool(self.known.all()):
            with self._path.open("rb+") as file:
                os.fsync(file.fileno())
            write_atomic(self._path.with_suffix(".complete"), b"")


def _free(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
