"""The weights of EfficientNet-Lite0 under timm's names."""

import pytest
import timm
import torch

from tools.efficientnet_lite_weights import MODEL, renamed


def test_tensors_go_by_the_order_of_the_layers() -> None:
    ours = timm.create_model(MODEL).state_dict()
    theirs = {f"_layer{number}.{name.rpartition('.')[2]}": t for number, (name, t) in enumerate(ours.items())}
    assert all(torch.equal(tensor, ours[name]) for name, tensor in renamed(theirs).items())
    swapped = dict(reversed(theirs.items()))
    with pytest.raises(ValueError, match=r"stands where conv_stem\.weight"):
        renamed(swapped)
    with pytest.raises(ValueError, match=f"{MODEL} has {len(ours)} tensors, and the file 1"):
        renamed({"_layer0.weight": ours["conv_stem.weight"]})
