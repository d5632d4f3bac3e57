"""Run a backbone on a split: images become model inputs on its device, and inputs become logits."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from shpeft.backbones import Backbone
from shpeft.config.schema import Precision
from shpeft.datasets import Split, batches
from shpeft.forward.shares import share_batch, share_sizes
from shpeft.support.team import ALONE, Team

Vary = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Changes a batch at random: its number, pixels (B, 3, H, W) and labels (B,) to pixels and labels or shares (B, C)."""

FEW_PATCHES = 128
"""Patches an image up to which unfused attention is faster than fused attention, in bfloat16 on a processor.

Seconds per step of ViT-S, batch size 16, one core with AMX: 0.46 unfused and 0.60 fused at 64 patches, equal at 144.
"""


class ForwardPass:
    """Run the whole backbone on each batch of images.

    Attributes:
        backbone: the model; a forward pass uses its current weights.
        precision: ``bfloat16`` runs the backbone under autocast; weights, gradients and values stay float32.
        team: the processes that share the images; each has a backbone of its own.
    """

    def __init__(self, backbone: Backbone, precision: Precision = "float32", team: Team = ALONE):
        self.backbone, self.precision, self.team = backbone, precision, team
        self._owners: dict[str, dict[int, int]] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.backbone.name}, {self.precision})"

    def batches(
        self,
        split: Split,
        batch_size: int,
        *,
        order: Sequence[int] | None = None,
        mirrored: Sequence[bool] | None = None,
        vary: Vary | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield model inputs (B, 3, H, W) and labels (B, ...); the last batch may be smaller.

        Args:
            order: the rows of the split to yield; None: all, in the split's order.
            mirrored: for each position of the order whether the image is flipped left to right.
            vary: changes each batch afterwards, such as by augmentation.
        """
        flips = None if mirrored is None else torch.tensor(mirrored, dtype=torch.bool).split(batch_size)
        for position, (pixels, target) in enumerate(batches(split, self.backbone.transform, batch_size, order=order)):
            if flips is not None:
                pixels = torch.where(flips[position].view(-1, 1, 1, 1), pixels.flip(-1), pixels)
            if vary is not None:
                pixels, target = vary(position, pixels, target)
            yield self.normalize(pixels), self.to_device(target)

    def shares(
        self,
        split: Split,
        batch_size: int,
        *,
        order: Sequence[int] | None = None,
        mirrored: Sequence[bool] | None = None,
        vary: Vary | None = None,
    ) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Return this process's part of each batch, and the size of the whole batch; see ``batches``.

        A process takes none of a batch that is smaller than the team: its inputs and labels are then empty (0,).
        """
        team, rows = self.team, range(len(split)) if order is None else order
        if team.alone:
            whole = self.batches(split, batch_size, order=order, mirrored=mirrored, vary=vary)
            return ((inputs, target, len(target)) for inputs, target in whole)
        chunks = [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
        owners = self._owners.setdefault(split.fingerprint, {})
        parts = [
            [position for position, taker in enumerate(share_batch(chunk, team.size, owners)) if taker == team.rank]
            for chunk in chunks
        ]
        if vary is None:
            own = [number * batch_size + position for number, part in enumerate(parts) for position in part]
            # All batches but the last are equally large, so that batches of own rows are the parts of the batches.
            drawn = self.batches(
                split,
                max(1, share_sizes(batch_size, team.size)[team.rank]),
                order=[rows[at] for at in own],
                mirrored=None if mirrored is None else [mirrored[at] for at in own],
            )
        else:  # a batch is varied as a whole: mixup mixes its images

            def varied(number: int, pixels: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
                pixels, target = vary(number, pixels, target)
                return pixels[parts[number] or [0]], target[parts[number] or [0]]

            drawn = self.batches(split, batch_size, order=order, mirrored=mirrored, vary=varied)
        return self._parts(drawn, [(len(part), len(chunk)) for part, chunk in zip(parts, chunks, strict=True)], vary)

    @staticmethod
    def _parts(
        drawn: Iterator[tuple[Tensor, Tensor]], sizes: Sequence[tuple[int, int]], vary: Vary | None
    ) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield parts of batches of these sizes; without ``vary`` an empty part is not among the batches."""
        nothing = torch.empty(0, dtype=torch.int64)
        for part, whole in sizes:
            inputs, target = next(drawn) if part or vary is not None else (nothing, nothing)
            yield (inputs, target, whole) if part else (nothing, nothing, whole)

    def collect(
        self,
        split: Split,
        batch_size: int,
        compute: Callable[[Tensor], Tensor],
        *,
        mirrored: Sequence[bool] | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Tensor:
        """Return ``compute(inputs)`` of every image of a split, (N, ...), on the CPU; processes share the batches.

        Args:
            batch_size: images per call; the bits are those of a single process.
            compute: returns one row for each image.
            mirrored: see ``batches``.
            progress: called with the number of images done.
        """
        own = [row for row in range(len(split)) if row // batch_size % self.team.size == self.team.rank]
        flips = None if mirrored is None else [mirrored[row] for row in own]
        parts, done = [], 0
        for inputs, target in self.batches(split, batch_size, order=own, mirrored=flips):
            if progress is not None:
                progress(min(done * self.team.size, len(split)))
            parts.append(compute(inputs).cpu())
            done += len(target)
        return self.team.assemble(own, parts, len(split))

    def normalize(self, pixels: Tensor) -> Tensor:
        """Turn pixels (B, 3, H, W) from 0 to 255 into the backbone's input, on its device and in its type."""
        return self.backbone.transform.normalize(self.to_device(pixels)).to(self.backbone.head.weight.dtype)

    def check(self, names: Iterable[str]) -> None:
        """Check that these parameters can be trained through this forward pass; here all of them can."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return logits (B, C), float32 or wider."""
        with self.autocast():
            return _at_least_float32(self.run(inputs))

    def run(self, inputs: Tensor) -> Tensor:
        """Run the model on inputs that ``batches`` yielded, in the precision of the surrounding autocast."""
        return self.backbone(inputs)

    def features(self, inputs: Tensor) -> Tensor:
        """Return the head's input (B, D), float32 or wider."""
        return _at_least_float32(self.backbone.features(inputs, self))

    def close(self) -> None:
        """Free what is cached; here nothing is."""

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Set the precision, and the attention kernel that is fastest in it, while the backbone runs."""
        device, half = self.backbone.device.type, self.precision == "bfloat16"
        with ExitStack() as stack:
            stack.enter_context(torch.autocast(device, torch.bfloat16, enabled=half))
            if half and device == "cpu" and _patches(self.backbone) <= FEW_PATCHES:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield

    def to_device(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to the backbone's device; copies to a GPU overlap with its work."""
        if self.backbone.device.type == "cuda":
            return tensor.pin_memory().to(self.backbone.device, non_blocking=True)
        return tensor.to(self.backbone.device)


def _patches(backbone: Backbone) -> float:
    """Return the number of patches an image is cut into; infinity if the model does not state it."""
    return float(getattr(getattr(backbone.module, "patch_embed", None), "num_patches", math.inf))


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
