"""Vision transformers in the format of Hugging Face's transformers: names of weights, and configurations.

Read are ViT, DINOv2 (RAD-DINO among others), DINOv2 with registers, DINOv3, and the image towers of SigLIP and CLIP.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from shpeft.errors import WeightsUnavailable

EMBEDDINGS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.class_embedding": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.register_tokens": "register_tokens",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.position_embedding.weight": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "embeddings.patch_embeddings": "patch_embed.proj",
    "embeddings.patch_embedding": "patch_embed.proj",
    "pre_layrnorm": "norm_pre",
    "layernorm": "norm",
    "post_layernorm": "norm",
    "norm": "norm",
}
"""Names outside the blocks, and timm's."""

BLOCK = re.compile(r"(?:model\.|encoder\.)?layers?\.(\d+)\.(.+)")

IN_BLOCK = (
    (r"(?:attention\.attention\.(query|key|value)|(?:self_attn|attention)\.([qkv])_proj)\.(weight|bias)", ""),
    (r"(attention\.output\.dense|self_attn\.out_proj|attention\.o_proj)", "attn.proj"),
    (r"(layernorm_before|layer_norm1)", "norm1"),
    (r"(layernorm_after|layer_norm2)", "norm2"),
    (r"(intermediate\.dense|mlp\.up_proj)", "mlp.fc1"),
    (r"(output\.dense|mlp\.down_proj)", "mlp.fc2"),
    (r"mlp\.weights_in", "mlp.w12"),
    (r"mlp\.weights_out", "mlp.w3"),
)
"""Patterns of names in a block, and timm's names (DINOv2's own for a gated MLP, which timm converts)."""

POOL = {
    "head.probe": "attn_pool.latent",
    "head.attention.out_proj": "attn_pool.proj",
    "head.layernorm": "attn_pool.norm",
    "head.mlp": "attn_pool.mlp",
}
"""SigLIP's attention pooling, and timm's names."""

FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of resampling filters in ``preprocessor_config.json``."""


def is_transformers(state: Mapping[str, Tensor]) -> bool:
    """Return whether weights have transformers' names."""
    return any(name.startswith("embeddings.patch_embedding") for name in state)


def timm_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights by timm's names, with queries, keys and values joined; unknown names stay."""
    names: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    rotary = not any("position_embedding" in name for name in state)
    for name, tensor in state.items():
        if match := BLOCK.fullmatch(name):
            _add_in_block(match[1], match[2], tensor, names, parts, rotary)
        elif name.startswith("head.attention.in_proj_"):
            query, rest = tensor[: len(tensor) // 3], tensor[len(tensor) // 3 :]
            kind = name.rpartition("_")[2]
            names[f"attn_pool.q.{kind}"], names[f"attn_pool.kv.{kind}"] = query, rest
        else:
            names[_renamed(name, EMBEDDINGS | POOL)] = tensor
    for name, qkv in parts.items():
        if set(qkv) == {"q", "k", "v"}:
            names[name] = torch.cat([qkv["q"], qkv["k"], qkv["v"]])
        else:  # DINOv3 has no bias of the keys
            names |= {f"{name.removesuffix('qkv.bias')}{part}_bias": tensor for part, tensor in qkv.items()}
    if "pos_embed" in names and names["pos_embed"].ndim == 2:
        names["pos_embed"] = names["pos_embed"][None]
    if names["patch_embed.proj.weight"].ndim == 4 and "cls_token" in names:
        names["cls_token"] = names["cls_token"].reshape(1, 1, -1)
    if rotary and "register_tokens" in names:
        names["reg_token"] = names.pop("register_tokens")
        names.pop("mask_token", None)
    return names


def _add_in_block(
    block: str, rest: str, tensor: Tensor, names: dict[str, Tensor], parts: dict[str, dict[str, Tensor]], rotary: bool
) -> None:
    """Add one tensor of a block, or note a part of the joined attention matrix."""
    joint = re.fullmatch(IN_BLOCK[0][0], rest)
    if joint:
        parts.setdefault(f"blocks.{block}.attn.qkv.{joint[3]}", {})[(joint[1] or joint[2])[0]] = tensor
        return
    scale = re.fullmatch(r"layer_scale([12])\.lambda1", rest)
    if scale:
        rest = f"gamma_{scale[1]}" if rotary else f"ls{scale[1]}.gamma"
    for pattern, name in IN_BLOCK[1:]:
        rest = re.sub(f"^{pattern}", name, rest)
    names[f"blocks.{block}.{rest}"] = tensor


def _renamed(name: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        if name == old or name.startswith(old + "."):
            return new + name[len(old) :]
    return name


def architecture(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the timm model and its arguments for a transformers configuration, the image size among them.

    Raises:
        WeightsUnavailable: another kind of model.
    """
    kind = str(config.get("model_type"))
    if kind in ("siglip", "clip", "siglip2") and "vision_config" in config:
        return architecture({"model_type": f"{kind}_vision_model", **config["vision_config"]})
    if kind not in KINDS:
        raise WeightsUnavailable(
            f"The configuration is for a model of transformers of the type {kind!r}; {', '.join(KINDS)} are converted. "
            "Use a model that is published for timm."
        )
    name = KINDS[kind]
    width = int(config["hidden_size"])
    eps = float(config.get("layer_norm_eps", 1e-6))
    arguments: dict[str, Any] = {
        "img_size": config.get("image_size", 224),
        "patch_size": config["patch_size"],
        "embed_dim": width,
        "depth": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "mlp_ratio": _mlp_ratio(config, width),
        "norm_layer": partial(nn.LayerNorm, eps=eps),
        "global_pool": "token",
    }
    if kind in ("clip_vision_model", "vit", "siglip_vision_model"):
        arguments["act_layer"] = ACTIVATIONS.get(str(config.get("hidden_act", "gelu")), config.get("hidden_act"))
    if kind.startswith("dinov2"):
        arguments["init_values"] = 1e-5
        if config.get("use_swiglu_ffn"):
            from timm.layers import SwiGLUPacked

            arguments |= {"mlp_layer": SwiGLUPacked, "act_layer": "silu"}
    if kind == "dinov2_with_registers":
        arguments |= {"reg_tokens": config.get("num_register_tokens", 4), "no_embed_class": True}
    if kind == "dinov3_vit":
        arguments |= {
            "num_reg_tokens": config.get("num_register_tokens", 0),
            "qkv_bias": bool(config.get("query_bias", False)),
            "rope_temperature": config.get("rope_theta", 100.0),
        }
    if kind == "siglip_vision_model":
        arguments["global_pool"] = "map" if config.get("vision_use_head", True) else "avg"
        name = name if config.get("vision_use_head", True) else "vit_base_patch16_siglip_gap_224"
    return name, arguments


KINDS = {
    "vit": "vit_base_patch16_224",
    "dinov2": "vit_base_patch14_dinov2",
    "dinov2_with_registers": "vit_base_patch14_reg4_dinov2",
    "dinov3_vit": "vit_base_patch16_dinov3",
    "siglip_vision_model": "vit_base_patch16_siglip_224",
    "clip_vision_model": "vit_base_patch16_clip_224",
}
"""The timm model of each type; its sizes are overwritten by those of the configuration."""

ACTIVATIONS = {"gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh", "quick_gelu": "quick_gelu"}


def _mlp_ratio(config: Mapping[str, Any], width: int) -> float:
    """Return timm's ratio of the hidden layer's width, which counts both halves of a gated MLP."""
    if config.get("use_swiglu_ffn"):
        hidden = (int(width * config.get("mlp_ratio", 4) * 2 / 3) + 7) // 8 * 8
        return (2 * hidden + 0.5) / width  # timm truncates the product
    if "intermediate_size" in config:
        return (int(config["intermediate_size"]) + 0.5) / width
    return float(config.get("mlp_ratio", 4))


def input_settings(preprocessor: Mapping[str, Any]) -> dict[str, Any]:
    """Return mean, std and interpolation of a ``preprocessor_config.json``, as timm names them."""
    settings: dict[str, Any] = {}
    if "image_mean" in preprocessor:
        settings["mean"] = tuple(preprocessor["image_mean"])
    if "image_std" in preprocessor:
        settings["std"] = tuple(preprocessor["image_std"])
    if preprocessor.get("resample") in FILTERS:
        settings["interpolation"] = FILTERS[preprocessor["resample"]]
    return settings
