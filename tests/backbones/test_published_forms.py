"""Weights in the forms in which the field publishes them: they give the right features, or are refused by name.

Each file is a stand-in with random weights, made here by the library that publishes the form.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from shpeft.backbones import Backbone, create_backbone
from shpeft.errors import BackboneError, WeightsUnavailable
from tests.conftest import CLASSES

SIZE = 32


def randomized(module: nn.Module) -> nn.Module:
    """Give every parameter, gains and scales included, a value of its own."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return module.eval()


def publish(module: nn.Module, path: Path, rename: Callable[[str], str] = str, **extra: Tensor) -> Path:
    """Write a model's weights under other names, with further tensors."""
    state = {rename(name): tensor.contiguous() for name, tensor in module.state_dict().items()}
    safetensors.torch.save_file(state | extra, path)
    return path


@torch.no_grad()
def features(backbone: Backbone) -> Tensor:
    return backbone.features(images())


def images() -> Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def reference(module: nn.Module) -> Tensor:
    """Return the features of a timm model without a classifier."""
    output: Tensor = module(images())
    return output


def vit(**arguments: Any) -> nn.Module:
    return randomized(timm.create_model("test_vit", num_classes=0, img_size=SIZE, **arguments))


def adopt(path: Path, **options: Any) -> Backbone:
    return create_backbone("test_vit", classes=CLASSES, weights=path, image_size=SIZE, **options)


FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "LayerScale, as UNI": ({"init_values": 1e-5}, {"init_values": "1e-05"}),
    "averaged tokens, as RETFound": ({"global_pool": "avg"}, {"global_pool": "avg"}),
    "more blocks": ({"depth": 8}, {"depth": "8"}),
    "fewer blocks": ({"depth": 3}, {"depth": "3"}),
    "registers": ({"reg_tokens": 4}, {"reg_tokens": "4"}),
    "no class token": (
        {"class_token": False, "global_pool": "avg"},
        {"class_token": "false", "global_pool": "avg"},
    ),
    "another patch size": ({"patch_size": 8}, {"patch_size": "8"}),
    "another MLP": ({"mlp_ratio": 2.0}, {"mlp_ratio": "2.0"}),
    "gated MLP, as UNI 2 and Virchow": (
        {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": "silu", "mlp_ratio": 4.0},
        {"mlp_layer": "SwiGLUPacked", "act_layer": "silu", "mlp_ratio": "4.0"},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_another_architecture_is_refused_with_the_arguments_that_fit(form: str, tmp_path: Path) -> None:
    arguments, expected = FORMS[form]
    module = vit(**arguments)
    path = publish(module, tmp_path / "w.safetensors")
    with pytest.raises(WeightsUnavailable) as refused:
        adopt(path)
    message = str(refused.value)
    assert "They fit with " in message
    for name, value in expected.items():
        assert f"--model-arg {name}={value}" in message
    given = message.partition("They fit with ")[2].partition(" (")[0].split()
    backbone = adopt(path, model_args=[part for part in given if part != "--model-arg"])
    torch.testing.assert_close(features(backbone), reference(module), rtol=0, atol=0)


def test_a_model_with_layer_scale_refuses_weights_without(tmp_path: Path) -> None:
    path = publish(vit(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsUnavailable, match=r"lacks 12 tensors .*ls1\.gamma.* --model-arg init_values=0 "):
        adopt(path, model_args={"init_values": 1e-5})
    assert adopt(path, model_args={"init_values": 0}).model_args == ("init_values=0",)


@pytest.mark.parametrize(
    "prefix",
    ["backbone.", "encoder.", "teacher.", "module.", "visual.trunk.", "model.", "student.", "teacher.backbone."],
)
def test_prefixes_of_the_field_are_taken_off(prefix: str, tmp_path: Path) -> None:
    module = vit()
    backbone = adopt(publish(module, tmp_path / "w.safetensors", lambda name: prefix + name))
    torch.testing.assert_close(features(backbone), reference(module), rtol=0, atol=0)
    assert repr(prefix) in backbone.weights


def test_other_parts_of_a_pretraining_are_left_out_and_named(tmp_path: Path) -> None:
    module, extra = vit(), torch.ones(2)
    path = publish(
        module,
        tmp_path / "w.safetensors",
        lambda name: f"teacher.backbone.{name}",
        **{"student.backbone.cls_token": extra, "teacher.dino_head.mlp.0.weight": extra.clone()},
    )
    backbone = adopt(path)
    torch.testing.assert_close(features(backbone), reference(module), rtol=0, atol=0)
    assert "without dino_head, student" in backbone.weights
    masked = publish(module, tmp_path / "mae.safetensors", decoder_pos_embed=extra, mask_token=extra.clone())
    assert "without decoder_pos_embed" in adopt(masked).weights


def test_unknown_tensors_are_refused_by_name(tmp_path: Path) -> None:
    path = publish(vit(), tmp_path / "w.safetensors", adapter=torch.ones(2))
    with pytest.raises(WeightsUnavailable, match="it has adapter that the model lacks"):
        adopt(path)
    beside = publish(vit(), tmp_path / "b.safetensors", lambda name: f"backbone.{name}", gate=torch.ones(2))
    with pytest.raises(WeightsUnavailable, match="it has gate that the model lacks"):
        adopt(beside)


def test_a_classifier_of_other_classes_is_not_needed(tmp_path: Path) -> None:
    module = randomized(timm.create_model("test_vit", num_classes=7, img_size=SIZE))
    backbone = adopt(publish(module, tmp_path / "w.safetensors"))
    module.reset_classifier(0)  # type: ignore[operator]
    torch.testing.assert_close(features(backbone), reference(module), rtol=0, atol=0)


def test_arguments_that_no_model_takes_are_refused() -> None:
    with pytest.raises(BackboneError, match=r"has no argument 'init_value'\. Did you mean init_values"):
        create_backbone("test_vit", classes=CLASSES, weights="random", model_args={"init_value": 1})
    with pytest.raises(BackboneError, match="Use the image size"):
        create_backbone("test_vit", classes=CLASSES, weights="random", model_args=["img_size=32"])
    with pytest.raises(BackboneError, match="has 3 channels or 1"):
        create_backbone("test_vit", classes=CLASSES, weights="random", model_args={"in_chans": 4})
    with pytest.raises(BackboneError, match="name=value"):
        create_backbone("test_vit", classes=CLASSES, weights="random", model_args=["global_pool"])


# -- mean and std


def test_a_config_beside_the_file_gives_mean_and_std(tmp_path: Path) -> None:
    path = publish(vit(), tmp_path / "w.safetensors")
    alone = adopt(path)
    assert alone.transform.mean == (0.5, 0.5, 0.5)
    assert "no config.json" in alone.remarks[0]
    assert adopt(path, mean=(0.1, 0.2, 0.3), std=(1, 1, 1)).remarks == ()
    config = {"architecture": "test_vit", "pretrained_cfg": {"mean": [0.7, 0.6, 0.7], "std": [0.2, 0.2, 0.1]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    described = adopt(path)
    assert (described.transform.mean, described.transform.std) == ((0.7, 0.6, 0.7), (0.2, 0.2, 0.1))
    assert described.remarks == ()
    assert adopt(path, mean=(0.1, 0.2, 0.3)).transform.mean == (0.1, 0.2, 0.3)
    with pytest.raises(BackboneError, match="above 0"):
        adopt(path, std=(0, 1, 1))


# -- folders and the hub


def timm_folder(folder: Path, module: nn.Module, **model_args: Any) -> Path:
    """Write a folder as timm publishes a model."""
    folder.mkdir()
    config = {
        "architecture": "test_vit",
        "num_classes": 0,
        "model_args": model_args,
        "pretrained_cfg": {
            "input_size": [3, SIZE, SIZE],
            "fixed_input_size": True,
            "mean": [0.7, 0.6, 0.7],
            "std": [0.2, 0.2, 0.1],
            "interpolation": "bilinear",
            "num_classes": 0,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    publish(module, folder / "model.safetensors")
    return folder


def test_a_folder_of_timm_describes_its_model(tmp_path: Path) -> None:
    module = vit(init_values=1e-5)
    folder = timm_folder(tmp_path / "uni", module, init_values=1e-5)
    backbone = create_backbone(f"local-dir:{folder}", classes=CLASSES)
    assert (backbone.name, backbone.weights) == ("local-dir:uni", "local folder uni")
    assert (backbone.image_size, backbone.transform.interpolation) == (SIZE, "bilinear")
    assert backbone.transform.mean == (0.7, 0.6, 0.7)
    torch.testing.assert_close(features(backbone), reference(module), rtol=0, atol=0)
    assert create_backbone(f"local-dir:{folder}", classes=CLASSES, image_size=48).image_size == 48
    with pytest.raises(WeightsUnavailable, match="init_values=1e-05"):
        create_backbone(f"local-dir:{folder}", classes=CLASSES, model_args={"init_values": 0})
    moved = create_backbone("local-dir:nowhere", classes=CLASSES, weights=folder)
    assert moved.fingerprint == backbone.fingerprint


def test_folders_that_do_not_describe_a_model_are_refused(tmp_path: Path) -> None:
    def refusal(match: str, **files: str) -> None:
        folder = tmp_path / match.split()[0]
        folder.mkdir()
        for name, content in files.items():
            (folder / name.replace("_json", ".json").replace("_bin", ".bin")).write_text(content)
        with pytest.raises(WeightsUnavailable, match=match):
            create_backbone(f"local-dir:{folder}", classes=CLASSES)

    with pytest.raises(WeightsUnavailable, match="There is no folder"):
        create_backbone(f"local-dir:{tmp_path / 'none'}", classes=CLASSES)
    refusal("has no config.json")
    refusal("cannot be read as JSON", config_json="{")
    refusal("safetensors file with weights. If you trust model.bin, convert it", config_json="{}", model_bin="x")


@pytest.fixture
def cached_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], None]:
    """Put a folder into the cache of the hub, under the name of a repository."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(repository: str, folder: Path) -> None:
        home = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text("a" * 40)
        (home / "snapshots").mkdir()
        folder.rename(home / "snapshots" / ("a" * 40))

    return put


def test_a_repository_of_the_hub_is_read_from_the_cache(
    tmp_path: Path, cached_hub: Callable[[str, Path], None]
) -> None:
    module = vit(init_values=1e-5)
    cached_hub("someone/uni", timm_folder(tmp_path / "uni", module, init_values=1e-5))
    backbone = create_backbone("hf-hub:someone/uni", classes=CLASSES)
    torch.testing.assert_close(features(backbone), reference(module), rtol=0, atol=0)
    assert backbone.weights == "model hub, someone/uni"
    assert backbone.transform.mean == (0.7, 0.6, 0.7)
    with pytest.raises(WeightsUnavailable, match=r"init_values=1e-05"):
        create_backbone("hf-hub:someone/uni", classes=CLASSES, model_args={"init_values": 0})


def test_a_repository_that_is_not_cached_is_refused_without_a_network() -> None:
    with pytest.raises(WeightsUnavailable, match=r"config\.json of someone/else is not in the cache.*local-dir:FOLDER"):
        create_backbone("hf-hub:someone/else", classes=CLASSES)


# -- transformers


def transformers_model(kind: str, **changes: Any) -> tuple[Any, Any]:
    """Return a small model of transformers with random weights, and its class's configuration."""
    library = pytest.importorskip("transformers")
    sizes: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
    sizes |= {"image_size": SIZE, "patch_size": 8}
    if not kind.startswith("Dinov2"):
        sizes["intermediate_size"] = 100
    config = getattr(library, f"{kind}Config")(**(sizes | changes))
    return randomized(getattr(library, f"{kind}Model")(config)), config


def gapped(kind: str, folder: Path, **changes: Any) -> tuple[Any, Backbone]:
    """Return a model of transformers, and the backbone that its folder becomes."""
    model, _ = transformers_model(kind, **changes)
    model.save_pretrained(folder)
    preprocessor = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "resample": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return model, create_backbone(f"local-dir:{folder}", classes=CLASSES)


KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "ViT": ("ViT", {}, "last_hidden_state"),
    "DINOv2, as RAD-DINO": ("Dinov2", {"mlp_ratio": 2}, "pooler_output"),
    "DINOv2 with registers": ("Dinov2WithRegisters", {"mlp_ratio": 2}, "pooler_output"),
    "DINOv2 with a gated MLP": ("Dinov2", {"mlp_ratio": 2, "use_swiglu_ffn": True}, "pooler_output"),
    "DINOv3": ("DINOv3ViT", {"num_register_tokens": 4}, "pooler_output"),
    "DINOv3 with biases": (
        "DINOv3ViT",
        {"num_register_tokens": 4, "query_bias": True, "value_bias": True},
        "pooler_output",
    ),
    "SigLIP": ("SiglipVision", {}, "pooler_output"),
    "CLIP": ("CLIPVision", {}, "pooler_output"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_transformers_give_their_features(kind: str, tmp_path: Path) -> None:
    name, changes, output = KINDS[kind]
    model, backbone = gapped(name, tmp_path / "model", **changes)
    assert (backbone.transform.mean, backbone.transform.interpolation) == ((0.5, 0.4, 0.3), "bilinear")
    assert "transformers" in backbone.weights
    with torch.no_grad():
        expected = getattr(model(images()), output)
    expected = expected[:, 0] if output == "last_hidden_state" else expected
    torch.testing.assert_close(features(backbone), expected, rtol=1e-4, atol=1e-4)


def test_a_file_of_transformers_fits_a_timm_model(tmp_path: Path) -> None:
    model, _ = transformers_model("ViT", hidden_size=64, num_hidden_layers=6, num_attention_heads=2, patch_size=16)
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(WeightsUnavailable, match=r"mlp_ratio=1\.5625"):
        adopt(tmp_path / "model.safetensors")
    backbone = adopt(tmp_path / "model.safetensors", model_args={"mlp_ratio": 1.5625})
    weight = safetensors.torch.load_file(tmp_path / "model.safetensors")["encoder.layer.1.intermediate.dense.weight"]
    assert torch.equal(backbone.parameters["blocks.1.mlp.fc1.weight"], weight)
