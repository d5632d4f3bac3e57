"""Backbones that fit medical images: what each is for, its size, its license and how to name it.

Sizes are counted and multiply-adds measured with ``torch.utils.flop_counter`` on the architectures without weights
(``tests/backbones/test_catalog.py`` repeats it). Licenses of timm's models are those that timm records; those of other
models, and their arguments, are taken from their model cards or from public code that loads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from shpeft.config.schema import EMBEDDED

Access = Literal["bundled", "open", "gated"]


@dataclass(frozen=True)
class CatalogEntry:
    """A backbone of the catalog.

    Attributes:
        name: what ``create_backbone`` and ``--backbone`` take.
        title: its usual name.
        modality: the images that it was trained on.
        purpose: when to choose it, as a phrase.
        weights: number of weights without the classifier.
        gmacs: multiply-adds of a forward pass of one image at ``image_size``, in billions.
        image_size: side of the input in pixels at which it is usually adapted.
        license: of the weights.
        access: ``bundled`` with shpeft, ``open`` on the model hub, or ``gated``: the hub asks for an account that has
            accepted the license.
        model_args: arguments that the published weights need.
        recommended: whether it is among the few to try first.
        tried: whether its published weights were loaded by shpeft. The others could not be downloaded; their form was
            tested with random weights.
    """

    name: str
    title: str
    modality: str
    purpose: str
    weights: int
    gmacs: float
    image_size: int
    license: str
    access: Access = "open"
    model_args: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    recommended: bool = False
    tried: bool = False

    @property
    def memory(self) -> int:
        """Bytes for the weights and the scores of a run, in float32; activations come on top."""
        return 4 * 3 * self.weights

    @property
    def command(self) -> str:
        """The options of the command line."""
        pairs = [f"--model-arg {name}={value}" for name, value in self.model_args.items()]
        return " ".join([f"--backbone {self.name}", *pairs, f"--image-size {self.image_size}"])


GENERAL = "general"
HISTOLOGY = "histology"
RADIOGRAPH = "chest x-ray"

DINOV3 = "DINOv3 License"
NON_COMMERCIAL = "CC BY-NC-ND 4.0"
UNVERIFIED = "see the model card"

SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "silu"}

KAIKO = "{}.kaiko_ai_towards_large_pathology_fms"

CATALOG = (
    CatalogEntry(
        EMBEDDED,
        "shpeft's own small ViT",
        GENERAL,
        "trials and teaching: no download, seconds per epoch",
        10_903_680,
        0.7,
        112,
        "Apache 2.0",
        "bundled",
        recommended=True,
        tried=True,
    ),
    CatalogEntry(
        "vit_small_patch14_dinov2.lvd142m",
        "DINOv2 ViT-S/14",
        GENERAL,
        "the backbone of the comparison in results/; fast, on a processor as well",
        21_628_800,
        6.1,
        224,
        "Apache 2.0",
        recommended=True,
        tried=True,
    ),
    CatalogEntry(
        "vit_base_patch14_dinov2.lvd142m",
        "DINOv2 ViT-B/14",
        GENERAL,
        "more accurate features than ViT-S, at four times the cost",
        85_724_928,
        23.2,
        224,
        "Apache 2.0",
        recommended=True,
    ),
    CatalogEntry(
        "vit_large_patch14_dinov2.lvd142m",
        "DINOv2 ViT-L/14",
        GENERAL,
        "for a graphics card",
        303_227_904,
        81.0,
        224,
        "Apache 2.0",
    ),
    CatalogEntry(
        "vit_small_patch16_dinov3.lvd1689m",
        "DINOv3 ViT-S/16",
        GENERAL,
        "successor of DINOv2, with rotary positions: larger inputs need no resampling",
        21_586_944,
        6.2,
        256,
        DINOV3,
        recommended=True,
    ),
    CatalogEntry(
        "vit_base_patch16_dinov3.lvd1689m",
        "DINOv3 ViT-B/16",
        GENERAL,
        "successor of DINOv2, at four times the cost of ViT-S",
        85_641_216,
        23.6,
        256,
        DINOV3,
    ),
    CatalogEntry(
        "convnext_tiny.dinov3_lvd1689m",
        "DINOv3 ConvNeXt-T",
        GENERAL,
        "convolutional: any image size, little memory",
        27_820_128,
        4.5,
        224,
        DINOV3,
    ),
    CatalogEntry(
        "convnext_base.fb_in22k",
        "ConvNeXt-B",
        GENERAL,
        "convolutional, supervised on ImageNet-22k",
        87_566_464,
        15.4,
        224,
        "Apache 2.0",
    ),
    CatalogEntry(
        "vit_base_patch16_siglip_gap_224.v2_webli",
        "SigLIP 2 ViT-B/16",
        GENERAL,
        "trained with captions; averages its tokens",
        85_797_120,
        17.5,
        224,
        "Apache 2.0",
    ),
    CatalogEntry(
        "eva02_small_patch14_224.mim_in22k",
        "EVA-02 ViT-S/14",
        GENERAL,
        "masked image modeling with CLIP's features as target",
        21_621_120,
        6.1,
        224,
        "MIT",
    ),
    CatalogEntry(
        "eva02_base_patch14_224.mim_in22k",
        "EVA-02 ViT-B/14",
        GENERAL,
        "masked image modeling, at four times the cost of ViT-S",
        85_758_720,
        23.2,
        224,
        "MIT",
    ),
    CatalogEntry(
        f"hf-hub:1aurent/{KAIKO.format('vit_small_patch16_224')}",
        "kaiko ViT-S/16",
        HISTOLOGY,
        "small enough for a processor; trained on TCGA",
        21_665_664,
        4.6,
        224,
        UNVERIFIED,
        recommended=True,
    ),
    CatalogEntry(
        f"hf-hub:1aurent/{KAIKO.format('vit_base_patch16_224')}",
        "kaiko ViT-B/16",
        HISTOLOGY,
        "trained on TCGA",
        85_798_656,
        17.6,
        224,
        UNVERIFIED,
    ),
    CatalogEntry(
        "hf-hub:1aurent/vit_small_patch16_224.lunit_dino",
        "Lunit DINO ViT-S/16",
        HISTOLOGY,
        "small; self-supervised on TCGA and in-house slides",
        21_665_664,
        4.6,
        224,
        UNVERIFIED,
    ),
    CatalogEntry(
        "hf-hub:owkin/phikon",
        "Phikon ViT-B/16",
        HISTOLOGY,
        "published in transformers' format, which is converted",
        85_798_656,
        17.6,
        224,
        "Owkin, non-commercial",
    ),
    CatalogEntry(
        "hf-hub:MahmoodLab/UNI",
        "UNI ViT-L/16",
        HISTOLOGY,
        "100,000 slides of many organs",
        303_350_784,
        61.6,
        224,
        NON_COMMERCIAL,
        "gated",
        {"init_values": 1e-5},
    ),
    CatalogEntry(
        "hf-hub:MahmoodLab/UNI2-h",
        "UNI 2 ViT-H/14",
        HISTOLOGY,
        "H&E and immunohistochemistry",
        681_394_176,
        185.5,
        224,
        NON_COMMERCIAL,
        "gated",
        {
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "init_values": 1e-5,
            "embed_dim": 1536,
            "mlp_ratio": 5.33334,
            "no_embed_class": True,
            "reg_tokens": 8,
            **SWIGLU,
        },
    ),
    CatalogEntry(
        "hf-hub:paige-ai/Virchow2",
        "Virchow2 ViT-H/14",
        HISTOLOGY,
        "several magnifications",
        631_239_424,
        170.1,
        224,
        NON_COMMERCIAL,
        "gated",
        {"global_pool": "token", **SWIGLU},
    ),
    CatalogEntry(
        "hf-hub:bioptimus/H-optimus-0",
        "H-optimus-0 ViT-g/14",
        HISTOLOGY,
        "500,000 H&E slides; expects 0.5 µm per pixel",
        1_134_774_272,
        304.2,
        224,
        "Apache 2.0",
        "gated",
        {"init_values": 1e-5},
    ),
    CatalogEntry(
        "hf-hub:prov-gigapath/prov-gigapath",
        "Prov-GigaPath ViT-g/16",
        HISTOLOGY,
        "the tile encoder of a slide model",
        1_134_953_984,
        228.1,
        224,
        "Apache 2.0 with conditions",
        "gated",
    ),
    CatalogEntry(
        "hf-hub:microsoft/rad-dino",
        "RAD-DINO ViT-B/14",
        RADIOGRAPH,
        "DINOv2 continued on chest X-rays; published in transformers' format, which is converted",
        86_579_712,
        151.6,
        518,
        "MIT, research use",
        recommended=True,
    ),
)
"""General models first, then those of a modality, smaller ones first."""


def recommended() -> tuple[CatalogEntry, ...]:
    """Return the few backbones to try first.

    Examples:
        >>> [entry.title for entry in recommended()][:2]
        ["shpeft's own small ViT", 'DINOv2 ViT-S/14']
    """
    return tuple(entry for entry in CATALOG if entry.recommended)


def entry_of(name: str) -> CatalogEntry | None:
    """Return the entry of a backbone's name; None if the catalog lacks it.

    Examples:
        >>> entry_of("hf-hub:MahmoodLab/UNI").license
        'CC BY-NC-ND 4.0'
    """
    return next((entry for entry in CATALOG if entry.name == name), None)
