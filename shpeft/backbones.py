"""Backbones: timm classifiers by name, with their weights, their input transform and their eligible weights."""

import copy
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors
import timm
import torch
from timm.models._manipulate import group_with_matcher  # the one place where timm tells the depth of a parameter
from torch import Tensor, nn

from shpeft.config import EMBEDDED
from shpeft.errors import BackboneError, ConfigError, UnknownBackbone, WeightsUnavailable, did_you_mean
from shpeft.images import InputTransform

HUB_TIMEOUT = 5.0
"""Seconds after which the model hub counts as out of reach."""


@dataclass(frozen=True)
class WeightInfo:
    """Where a parameter of the backbone stands.

    ``blocks.3.attn.qkv.weight`` has depth 4 (the stem is 0), block ``blocks.3`` and matrix ``attn.qkv.weight``.
    """

    name: str
    shape: tuple[int, ...]
    numel: int
    depth: int
    block: str
    matrix: str
    is_matrix: bool = field(default=False, compare=False)
    """The weight of a linear or convolutional layer inside a block, rather than a bias, norm, stem or embedding."""


class Backbone:
    """A timm classifier with what is needed to feed it and to change it.

    Attributes:
        module: the network, in evaluation mode; its parameters keep timm's names.
        head: the classifier, the last linear layer.
        weights: where the base weights come from, as words for people.
    """

    def __init__(self, name: str, module: nn.Module, classes: Sequence[str], transform: InputTransform, weights: str):
        self.name = name
        self.module = module.eval()
        self.classes = tuple(classes)
        self.transform = transform
        self.weights = weights
        self.head_name, self.head = _classifier(name, module)
        self._infos = _weight_infos(module, self.head_name)
        self.occupied = False  # by an applied delta; see shpeft.delta

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return self.transform.size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    @property
    def count(self) -> int:
        """How many weights the backbone has, the head excluded: what a budget's share refers to."""
        return sum(info.numel for info in self._infos)

    @property
    def head_count(self) -> int:
        """How many weights the head has."""
        return sum(p.numel() for p in self.head.parameters())

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, C) of normalised images (B, 3, S, S)."""
        return self.module(images)

    def features(self, images: Tensor) -> Tensor:
        """What the head sees: (B, D) for normalised images (B, 3, S, S)."""
        seen: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            self.module(images)
        finally:
            handle.remove()
        return seen[0]

    def weight_infos(self, scope: str = "all") -> tuple[WeightInfo, ...]:
        """The weights that may be selected, in the model's order; the head is never among them.

        Args:
            scope: ``all``; ``matrices`` (linear and convolutional weights inside blocks); or ``last:n``, the matrices
                of the last n blocks.

        Raises:
            ConfigError: an unknown scope.
        """
        if scope == "all":
            return self._infos
        matrices = tuple(info for info in self._infos if info.is_matrix)
        if scope == "matrices":
            return matrices
        match = re.fullmatch(r"last:([1-9]\d*)", scope)
        if not match:
            raise ConfigError(f"Scope {scope!r} is unknown. Use 'all', 'matrices' or 'last:n' with n the blocks.")
        deepest = max((info.depth for info in matrices), default=0)
        return tuple(info for info in matrices if info.depth > deepest - int(match[1]))

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters by name, the head's included."""
        return dict(self.module.named_parameters())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the base weights and buffers (names, types, shapes, bytes), the head excluded.

        Computed once: a delta that is applied does not change it.
        """
        digest = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            if not name.startswith(self.head_name + "."):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> "Backbone":
        """Move the weights; returns itself."""
        self.module.to(device)
        return self

    def copy(self) -> "Backbone":
        """An independent copy: threads and jobs never share a module."""
        return Backbone(self.name, copy.deepcopy(self.module), self.classes, self.transform, self.weights)


def create_backbone(
    name: str = EMBEDDED,
    *,
    classes: Sequence[str],
    weights: str | Path = "pretrained",
    image_size: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Backbone:
    """Make a backbone with a new head for the classes.

    Args:
        name: a timm model name (``timm.list_models()``) or ``embedded``, the small one that ships with shpeft.
        classes: one name for each output of the head.
        weights: ``pretrained`` (timm's, from the model hub or its cache), the path of a ``.safetensors`` file with
            timm's parameter names, or ``random``, which has to be asked for.
        image_size: side of the square input in pixels; position embeddings are resampled to it. None: the model's own.
        seed: decides the random weights, where there are any, and the head's start.

    Raises:
        UnknownBackbone: no such name; the message offers the nearest.
        WeightsUnavailable: the file or the hub could not be read, or the file does not fit the model.
        BackboneError: the model cannot be used as asked (image size, no linear head).
    """
    if len(classes) < 2:
        raise BackboneError(f"A backbone needs at least two classes to tell apart; found {list(classes)}.")
    architecture, arguments, overlay = _architecture(name)
    if name == EMBEDDED and str(weights) not in ("pretrained", "random"):
        raise BackboneError(f"The embedded backbone has its own weights; for {weights} name the timm model it fits.")
    if image_size is not None and _takes_image_size(architecture):
        arguments = {**arguments, "img_size": image_size}
    arguments["num_classes"] = len(classes)

    if str(weights) == "random":
        module, origin = _build(architecture, arguments, {}, seed), f"random, seed {seed}"
    elif name == EMBEDDED:
        module, origin = _build(architecture, arguments, overlay, seed), "embedded in shpeft"
    elif str(weights) == "pretrained":
        _check_hub(name)
        module, origin = _build(architecture, arguments, None, seed), "timm, from the model hub"
    else:
        overlay = {"file": str(_local_file(Path(weights)))}
        module = _build(architecture, arguments, overlay, seed)
        _check_nothing_random(module, _build(architecture, arguments, {}, seed), Path(weights))
        origin = f"local file {Path(weights).name}"

    _check_image_size(name, module, image_size)
    config = timm.data.resolve_data_config({}, model=module)
    transform = InputTransform(
        size=image_size or config["input_size"][-1],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
    )
    return Backbone(name, module, classes, transform, origin).to(device)


def list_backbones(pattern: str = "") -> list[str]:
    """Names that contain the pattern (or match it, where it has ``*``), the embedded one first."""
    glob = pattern if "*" in pattern else f"*{pattern}*"
    own = [EMBEDDED] if pattern in EMBEDDED else []
    return own + timm.list_models(glob)


def resolve_device(device: str = "auto") -> torch.device:
    """The device to work on: with ``auto`` the GPU when there is one.

    Raises:
        BackboneError: a device that this machine does not have.
    """
    if device == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BackboneError(f"Device {device!r} cannot be used here ({reason}). Use 'auto' or 'cpu'.") from None
    return torch.device(device)


def embedded_file() -> Path:
    """Where the embedded backbone's weights are: in the package, or in a checkout's ``assets``."""
    here = Path(__file__).resolve().parent
    for folder in (here / "assets", here.parent / "assets"):
        if (folder / "embedded_vit.safetensors").is_file():
            return folder / "embedded_vit.safetensors"
    raise WeightsUnavailable("The embedded backbone's file embedded_vit.safetensors is missing: reinstall shpeft.")


def _architecture(name: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The timm model behind a name, its arguments, and changes to its pretrained configuration."""
    if name == EMBEDDED:
        path = embedded_file()
        with safetensors.safe_open(path, "pt") as file:
            meta = file.metadata()
        size = int(meta["image_size"])
        overlay = {
            "file": str(path),
            "input_size": (3, size, size),
            "mean": json.loads(meta["mean"]),
            "std": json.loads(meta["std"]),
            "interpolation": meta["interpolation"],
            "num_classes": 0,
        }
        return meta["architecture"], json.loads(meta["kwargs"]), overlay
    if not timm.is_model(name):
        known = [EMBEDDED, *timm.list_models()]
        hint = did_you_mean(name, known) or "`shpeft backbones PATTERN` lists the names."
        raise UnknownBackbone(f"There is no backbone {name!r}; {len(known)} timm models are known. {hint}")
    architecture, _, tag = name.partition(".")
    tags = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in tags:
        raise UnknownBackbone(f"There are no weights {tag!r} of {architecture}. {did_you_mean(name, tags)}".rstrip())
    return name, {}, {}


def _takes_image_size(architecture: str) -> bool:
    """Whether the model has position embeddings of a fixed size; convolutional models take any image."""
    return bool(timm.get_pretrained_cfg_value(architecture, "fixed_input_size"))


def _build(
    architecture: str, arguments: dict[str, Any], overlay: dict[str, Any] | None, seed: int
) -> nn.Module:
    """Create the timm model with seeded initial weights, and load weights over them unless ``overlay`` is empty."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return timm.create_model(
                architecture, pretrained=overlay != {}, pretrained_cfg_overlay=overlay or None, **arguments
            ).eval()
        except (RuntimeError, ValueError, OSError, KeyError, AssertionError, safetensors.SafetensorError) as error:
            reason = " ".join(str(error).split())[:300]
            raise WeightsUnavailable(f"The weights do not fit {architecture} or cannot be read: {reason}") from None


def _check_image_size(name: str, module: nn.Module, image_size: int | None) -> None:
    """Refuse a size that leaves part of a patch over: timm would drop those pixels without a word."""
    patch = getattr(getattr(module, "patch_embed", None), "patch_size", None)
    if image_size is None or patch is None:
        return
    side = patch[0] if isinstance(patch, tuple) else int(patch)
    if image_size % side:
        near = image_size - image_size % side
        raise BackboneError(
            f"{name} cuts images into patches of {side} px, so {image_size} px is no size for it: use a multiple of "
            f"{side}, such as {near or side} or {near + side}."
        )


def _local_file(path: Path) -> Path:
    """Check a file of weights before anything is made from it."""
    if not path.is_file():
        raise WeightsUnavailable(
            f"There is no file {path}. Give the path of a .safetensors file with the timm model's weights."
        )
    try:
        with safetensors.safe_open(path, "pt") as file:
            file.keys()
    except safetensors.SafetensorError as error:
        raise WeightsUnavailable(
            f"{path.name} is not a safetensors file ({error}). Pickled checkpoints can run code and are refused: "
            "convert it with safetensors.torch.save_file."
        ) from None
    return path


def _check_nothing_random(module: nn.Module, fresh: nn.Module, path: Path) -> None:
    """Refuse a file that left matrices at their random start: timm loads loosely when the heads differ."""
    head_name, _ = _classifier("", module)
    start = dict(fresh.named_parameters())
    random = [
        name
        for name, p in module.named_parameters()
        if p.ndim > 1 and not name.startswith(head_name + ".") and p.std() > 0 and torch.equal(p, start[name])
    ]
    if random:
        raise WeightsUnavailable(
            f"{path.name} has no weights for {len(random)} matrices of the model, {random[0]} among them. "
            "It may belong to another model; random weights have to be asked for with weights 'random'."
        )


def _check_hub(name: str) -> None:
    """Say within seconds when pretrained weights cannot be had; timm alone would retry for minutes."""
    from huggingface_hub import constants, get_session, try_to_load_from_cache

    config = timm.get_pretrained_cfg(name)
    advice = (
        "Give a local file of weights (--weights FILE.safetensors), use the backbone 'embedded', or ask for 'random'."
    )
    if config is None or not config.has_weights:
        tagged = timm.list_pretrained(f"{name.split('.')[0]}*")
        hint = f" Models with weights: {', '.join(tagged[:3])}." if tagged else ""
        raise WeightsUnavailable(f"timm publishes no pretrained weights for {name}.{hint} {advice}")
    if config.hf_hub_id:
        files = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
        if any(isinstance(try_to_load_from_cache(config.hf_hub_id, file), str) for file in files):
            return
    host = constants.ENDPOINT.split("//")[-1]
    if constants.HF_HUB_OFFLINE:
        raise WeightsUnavailable(f"HF_HUB_OFFLINE is set and the weights of {name} are not in the cache. {advice}")

    failure: list[BaseException | None] = [TimeoutError()]

    def knock() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT)
            failure[0] = None
        except Exception as error:  # whatever the HTTP library raises means the same: out of reach
            failure[0] = error

    thread = threading.Thread(target=knock, daemon=True)  # name resolution knows no timeout of its own
    thread.start()
    thread.join(HUB_TIMEOUT)
    if failure[0] is not None:
        raise WeightsUnavailable(
            f"The pretrained weights of {name} are on {host}, which could not be reached within {HUB_TIMEOUT:.0f} s "
            f"({type(failure[0]).__name__}). {advice}"
        )


def _classifier(name: str, module: nn.Module) -> tuple[str, nn.Linear]:
    """The name and the module of the head."""
    find: Any = getattr(module, "get_classifier", lambda: None)
    head = find()
    if not isinstance(head, nn.Linear):
        raise BackboneError(
            f"{name} has no single linear head (found {type(head).__name__}). Choose a timm image classifier with one."
        )
    return next(key for key, child in module.named_modules() if child is head), head


def _weight_infos(module: nn.Module, head_name: str) -> tuple[WeightInfo, ...]:
    """Every parameter but the head's, in the model's order, with its place."""
    parameters = [(name, p) for name, p in module.named_parameters() if not name.startswith(head_name + ".")]
    depth_of = _depths(module, [name for name, _ in parameters])
    block_of = _blocks(depth_of)
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    layer_weights = {f"{key}.weight" for key, child in module.named_modules() if isinstance(child, layers)}
    infos = []
    for name, p in parameters:
        block = block_of[depth_of[name]]
        inside = bool(block) and name.startswith(block + ".")
        rest = name[len(block) + 1 :] if inside else name
        infos.append(
            WeightInfo(
                name=name,
                shape=tuple(p.shape),
                numel=p.numel(),
                depth=depth_of[name],
                block=block if inside else ("stem" if depth_of[name] == 0 else "final"),
                matrix=re.sub(r"^(blocks|layers)\.\d+\.", "", rest),  # the first block of a stage shares its prefix
                is_matrix=inside and depth_of[name] > 0 and name in layer_weights,
            )
        )
    return tuple(infos)


def _depths(module: nn.Module, names: list[str]) -> dict[str, int]:
    """timm's depth of each parameter, 0 for the stem; by leading name where a model does not tell."""
    try:
        matcher: Any = module.group_matcher
        depths = group_with_matcher(module.named_parameters(), matcher(coarse=False), reverse=True)
        return {name: int(depths[name]) for name in names}
    except (AttributeError, NotImplementedError, KeyError):
        firsts = list(dict.fromkeys(name.split(".")[0] for name in names))
        return {name: firsts.index(name.split(".")[0]) for name in names}


def _blocks(depth_of: dict[str, int]) -> dict[int, str]:
    """For each depth the dotted prefix that most of its parameters share; stem parameters share none."""
    blocks = {}
    for depth in set(depth_of.values()):
        names = [name.split(".")[:-1] for name, d in depth_of.items() if d == depth]
        leader = Counter(parts[0] for parts in names if parts).most_common(1)
        group = [parts for parts in names if leader and parts and parts[0] == leader[0][0]]
        common = []
        for parts in zip(*group, strict=False):
            if len(set(parts)) > 1:
                break
            common.append(parts[0])
        blocks[depth] = "" if depth == 0 else ".".join(common)
    return blocks
