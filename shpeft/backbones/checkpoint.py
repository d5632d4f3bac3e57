"""Fit a file of weights to a timm model: every weight of the model gets its own, and none is left over unnoticed.

Tried in turn are the file's names as they are and without the prefixes that the field uses, transformers' names, and
timm's own converter of the model. What still differs, except for the classifier, is refused.
"""

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from timm.models import adapt_input_conv
from torch import Tensor, nn

from shpeft.backbones import transformers_format
from shpeft.backbones.model_arguments import suggested
from shpeft.errors import WeightsUnavailable

State = dict[str, Tensor]

PREFIXES = (
    *("module.", "_orig_mod.", "state_dict.", "model.", "teacher.", "student.", "backbone.", "encoder."),
    *("visual.trunk.", "visual.", "image_encoder.", "trunk.", "vision_model.", "vit.", "dinov2.", "net."),
)
"""Prefixes in front of all names of a model; of a teacher and a student, the teacher is taken, as DINO evaluates it."""

NESTED = 3
"""Prefixes that may stand in front of each other."""

OTHER_PARTS = re.compile(
    r"(decoder\w*|mask_token|dino_head|ibot_head|(dino|ibot)_loss|projectors?|projection_head|predictor|prototypes|pooler"
    r"|queue\w*|logit_scale|logit_bias|text\w*|transformer|token_embedding|positional_embedding|ln_final|visual_projection"
    r"|text_projection|student|teacher|momentum_encoder|optimizer|epoch|local_cls_norm)(\..*)?"
)
"""Names of parts that belong to pretraining or to another modality, and do not take part in an image's features."""

CLASSIFIERS = re.compile(r"(head|fc|classifier|head_dist|last_linear)\.(weight|bias)")
"""Names of classifiers, also of those that the model names otherwise."""

UNUSED = re.compile(
    r"(.*\.)?(num_batches_tracked|relative_position_index|attn_mask|position_ids|total_ops|total_params)"
)
"""Names of buffers that a model computes by itself."""


@dataclass(frozen=True)
class Difference:
    """How weights differ from those that a model needs.

    Attributes:
        unexpected: names that the model lacks.
        missing: names that the weights lack.
        shapes: name, shape in the file and shape in the model.
    """

    unexpected: tuple[str, ...]
    missing: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()

    @property
    def count(self) -> int:
        """The number of tensors that differ."""
        return len(self.unexpected) + len(self.missing) + len(self.shapes)

    def __str__(self) -> str:
        parts = []
        if self.unexpected:
            parts.append(f"it has {_listed(self.unexpected)} that the model lacks")
        if self.missing:
            parts.append(f"it lacks {_listed(self.missing)} that the model needs")
        if self.shapes:
            name, own, needed = self.shapes[0]
            more = f", and {len(self.shapes) - 1} more" * (len(self.shapes) > 1)
            parts.append(f"{name} has the shape {own}, and the model needs {needed}{more}")
        return "; ".join(parts)


def fitted(
    state: Mapping[str, Tensor],
    module: nn.Module,
    head_name: str,
    label: str,
    rebuilt: Callable[[str], nn.Module | None] = lambda _: None,
) -> tuple[State, tuple[str, ...]]:
    """Return the weights in the names and shapes of a model, without a classifier.

    Args:
        state: the tensors of a file.
        module: the model.
        head_name: the dotted name of the classifier, whose weights are not needed.
        label: the name of the file, for messages.
        rebuilt: builds the same model with further arguments, ``name=value`` joined by commas, to check a suggestion.
            None: it cannot be built.

    Returns:
        the weights, and phrases that say what was converted or left out.

    Raises:
        WeightsUnavailable: the weights do not fit; the message names them, and arguments with which they would.
    """
    best: tuple[int, Difference, State, str] | None = None
    for prefix, inner, outside in sorted(_unwrapped(state), key=lambda candidate: not candidate[0]):
        named, steps = _named(inner), []
        converted, gray = _for_channels(_converted(named, module), module)
        difference = _difference(converted, module, head_name, outside)
        if not difference.count:
            if prefix:
                steps.append(f"names without {prefix!r}")
            if named is not inner:
                steps.append("converted from transformers' names")
            if gray:
                steps.append("first layer summed over the colors")
            if left := _parts(outside + [name for name in converted if OTHER_PARTS.fullmatch(name)]):
                steps.append(f"without {', '.join(left)}")
            return {name: t for name, t in converted.items() if name in _needed(module, head_name)}, tuple(steps)
        if best is None or difference.count < best[0]:
            best = difference.count, difference, converted, prefix
    assert best is not None  # a candidate is the state itself
    raise WeightsUnavailable(_refusal(label, module, head_name, best[1], best[2], rebuilt))


def _unwrapped(state: Mapping[str, Tensor]) -> Iterator[tuple[str, State, list[str]]]:
    """Yield the state itself and every state behind prefixes: the prefix, its weights, and the names outside.

    Those behind prefixes are tried first, because timm's converters may drop what is outside without a word.
    """
    layer: list[tuple[str, State, list[str]]] = [("", dict(state), [])]
    for _ in range(NESTED + 1):
        yield from layer
        following = []
        for prefix, inner, outside in layer:
            for part in PREFIXES:
                below = {name.removeprefix(part): t for name, t in inner.items() if name.startswith(part)}
                if below:
                    beside = [name for name in inner if not name.startswith(part)]
                    following.append((prefix + part, below, outside + beside))
        layer = following


def _named(state: State) -> State:
    """Return the state in timm's names if it has transformers'."""
    return transformers_format.timm_names(state) if transformers_format.is_transformers(state) else state


def _converted(state: State, module: nn.Module) -> State:
    """Return the state after timm's converter of the model, which also resamples position embeddings.

    The converter is left out where it would resample patches, or a position embedding of another kind of tokens.
    """
    own = module.state_dict()
    patches = state.get("patch_embed.proj.weight")
    own_patches = own.get("patch_embed.proj.weight")
    same = patches is None or own_patches is None or patches.ndim != 4 or patches.shape[-2:] == own_patches.shape[-2:]
    if not same or not _resampleable(state, module):
        return state
    converter = _converter(module)
    if converter is None:
        return state
    for arguments in ((module,), ()):
        try:
            return dict(converter(dict(state), *arguments))
        except TypeError:  # an older converter takes the state alone
            continue
        except (RuntimeError, KeyError, ValueError, AssertionError, AttributeError, IndexError):
            return state
    return state


def _converter(module: nn.Module) -> Any:
    """Return timm's converter of a model's weights; None if it has none."""
    names = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
    own = sys.modules[type(module).__module__]
    return next((function for name in names if (function := getattr(own, name, None)) is not None), None)


def resamples_positions(module: nn.Module, name: str) -> bool:
    """Return whether timm's converter resamples these weights of single positions to a grid of other proportions."""
    converter = getattr(_converter(module), "__module__", "")
    if name == "pos_embed":
        return converter in ("timm.models.vision_transformer", "timm.models.eva")
    return bool(converter) and name.endswith("relative_position_bias_table")


def _for_channels(state: State, module: nn.Module) -> tuple[State, bool]:
    """Return the state with the first layer for the channels of the model, by timm's own adaptation; and whether it is.

    Only a first layer that differs in its channels from three to one is adapted.
    """
    config: Any = getattr(module, "pretrained_cfg", None) or {}
    first = config.get("first_conv") or ()
    adapted = dict(state)
    for name in (first,) if isinstance(first, str) else first:
        weight, own = state.get(f"{name}.weight"), module.state_dict().get(f"{name}.weight")
        if weight is not None and own is not None and weight.ndim == 4 and (weight.shape[1], own.shape[1]) == (3, 1):
            adapted[f"{name}.weight"] = adapt_input_conv(1, weight)
    return adapted, any(adapted[name] is not state[name] for name in state)


def _resampleable(state: State, module: nn.Module) -> bool:
    """Return whether a position embedding has one entry per token, and per patch of a square or of a known grid.

    Known are the model's grid, and that of the input size of its configuration.
    """
    embedding, own = state.get("pos_embed"), getattr(module, "pos_embed", None)
    if embedding is None or own is None or embedding.ndim != 3 or "register_tokens" in state:
        return True
    tokens = 0 if getattr(module, "no_embed_class", False) else int(getattr(module, "num_prefix_tokens", 1))
    patches = embedding.shape[1] - tokens
    config: Any = getattr(module, "pretrained_cfg", None) or {}
    sides = getattr(getattr(module, "patch_embed", None), "patch_size", None)
    if isinstance(sides, tuple) and "input_size" in config:
        height, width = config["input_size"][-2:]
        if patches == (height // sides[0]) * (width // sides[1]):
            return True
    return embedding.shape[1] == own.shape[1] or (patches > 0 and math.isqrt(patches) ** 2 == patches)


def _needed(module: nn.Module, head_name: str) -> State:
    """Return the tensors that a model needs from a file."""
    return {
        name: tensor
        for name, tensor in module.state_dict().items()
        if not name.startswith(head_name + ".") and not UNUSED.fullmatch(name)
    }


def _difference(state: State, module: nn.Module, head_name: str, outside: Sequence[str]) -> Difference:
    needed = _needed(module, head_name)
    more = [name for name in state if name not in needed] + list(outside)
    unexpected = [
        name
        for name in more
        if not (
            name.startswith(head_name + ".")
            or CLASSIFIERS.fullmatch(name)
            or UNUSED.fullmatch(name)
            or OTHER_PARTS.fullmatch(name)
        )
    ]
    shapes = [
        (name, tuple(state[name].shape), tuple(tensor.shape))
        for name, tensor in needed.items()
        if name in state and state[name].shape != tensor.shape
    ]
    return Difference(tuple(unexpected), tuple(name for name in needed if name not in state), tuple(shapes))


def _parts(names: Sequence[str]) -> list[str]:
    """Return the parts that were left out, each once."""
    return sorted({name.partition(".")[0] for name in names if not CLASSIFIERS.fullmatch(name)})


def _listed(names: Sequence[str]) -> str:
    """Return the first names and the number of all."""
    if len(names) == 1:
        return names[0]
    return f"{len(names)} tensors ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"


def _refusal(
    label: str,
    module: nn.Module,
    head_name: str,
    difference: Difference,
    state: State,
    rebuilt: Callable[[str], nn.Module | None],
) -> str:
    """Return the sentence that refuses weights, with arguments that were checked to fit, if there are any."""
    advice = "They may belong to another model: name the timm model that they were made for."
    arguments = suggested(
        state, module, difference.unexpected, [*difference.missing, *(s[0] for s in difference.shapes)]
    )
    if arguments:
        other = rebuilt(arguments)
        options = " ".join(f"--model-arg {argument}" for argument in arguments.split(","))
        if other is not None and not _difference(_converted(state, other), other, head_name, ()).count:
            advice = f"They fit with {options} (model_args={arguments.split(',')})."
        elif other is not None:
            advice = f"{options} would bring them nearer, but not fit them. {advice}"
    return f"The weights of {label} do not fit {type(module).__name__}: {difference}. {advice}"
