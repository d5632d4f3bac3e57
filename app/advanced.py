"""The settings that a first run does not need: how weights are scored, and the rates of training."""

from typing import Any

import streamlit as st

from shpeft.config import RunConfig, SelectionConfig, TrainingConfig

SCORES = {
    "hybrid": "Hybrid: task-specific and task-agnostic together",
    "gradient": "Gradient: task-specific, absolute",
    "fisher": "Fisher: task-specific, squared",
    "magnitude": "Magnitude: task-agnostic, needs no images",
    "wanda": "Wanda: magnitude times how strongly the input speaks",
    "random": "Random: a control",
}
FORMULAS = {
    "product": "Product of both for every weight",
    "sum": "Weighted sum of both",
    "quota": "A quota for each",
}
SCOPES = {
    "matrices": "Matrices inside the blocks",
    "last:50%": "Matrices of the last half of the blocks",
    "last:25%": "Matrices of the last quarter of the blocks",
    "all": "All weights of the backbone",
}
GRADIENTS = {
    "all": "All images at once",
    "batch": "Batches, then the mean of their sizes",
    "image": "Single images, then the mean of their sizes",
}
SPREADS = {"row": "As few of a row as possible", "none": "Wherever they are"}
NORMS = {"l1": "L1: absolute values", "l2": "L2: squares"}
NORMALISERS = ["mean", "max", "rank"]
AUGMENTS = {"none": "None", "flip": "Random left-right flips"}


PRECISIONS = {"float32": "32 bits", "bfloat16": "16 bits where that is enough (bfloat16)"}


def advanced() -> tuple[dict[str, Any], dict[str, Any], str]:
    """The rest of the selection and of the training, and the precision."""
    default, fields = RunConfig().selection, SelectionConfig.model_fields
    left, right = st.columns(2)
    with left:
        score = st.selectbox(
            "Score",
            list(SCORES),
            list(SCORES).index(default.score),
            key="set_score",
            format_func=SCORES.get,
            help="How a weight's importance is measured: what decides which ones are trained.",
        )
        selection: dict[str, Any] = {"score": score}
        if score == "hybrid":
            selection["formula"] = st.selectbox(
                "Formula",
                list(FORMULAS),
                list(FORMULAS).index(default.formula),
                key="set_formula",
                format_func=FORMULAS.get,
                help=fields["formula"].description,
            )
        if score == "hybrid" and selection["formula"] != "product":
            selection["lam"] = st.slider("Weight of the task-agnostic half", 0.0, 1.0, default.lam, key="set_lam")
        if score == "hybrid" and selection["formula"] == "sum":
            selection["normaliser"] = st.selectbox(
                "Each half is divided by its", NORMALISERS, NORMALISERS.index(default.normaliser), key="set_norm"
            )
    with right:
        selection["scope"] = st.selectbox(
            "Which weights may be chosen",
            list(SCOPES),
            list(SCOPES).index(default.scope),
            key="set_scope",
            format_func=SCOPES.get,
        )
        if score in ("hybrid", "magnitude"):
            selection["norm"] = st.selectbox(
                "Norm",
                list(NORMS),
                list(NORMS).index(default.norm),
                key="set_l",
                help=fields["norm"].description,
                format_func=NORMS.get,
            )
        if score in ("hybrid", "gradient", "fisher"):
            selection["expectation"] = st.selectbox(
                "Gradients of",
                list(GRADIENTS),
                list(GRADIENTS).index(default.expectation),
                key="set_expectation",
                help=fields["expectation"].description,
                format_func=GRADIENTS.get,
            )
        selection["spread"] = st.selectbox(
            "The best weights",
            list(SPREADS),
            list(SPREADS).index(default.spread),
            key="set_spread",
            help="A row is what one neuron is computed from. Spread over the rows, the weights can take larger steps.",
            format_func=SPREADS.get,
        )
        selection["images"] = st.number_input(
            "Images for scoring", 1, None, default.images, key="set_images", help=fields["images"].description
        )
    st.divider()
    training = _training()
    st.divider()
    engine, precision = _engine()
    return selection, training | engine, precision


def _training() -> dict[str, Any]:
    default, fields = RunConfig().training, TrainingConfig.model_fields
    left, right = st.columns(2)
    return {
        "lr": left.number_input(
            "Learning rate of the weights",
            1e-7,
            10.0,
            default.lr,
            1e-4,
            format="%g",
            key="set_lr",
            help=fields["lr"].description,
        ),
        "head_lr": right.number_input(
            "Learning rate of the classifier",
            1e-7,
            10.0,
            default.head_lr,
            1e-4,
            format="%g",
            key="set_head_lr",
            help=fields["head_lr"].description,
        ),
        "batch_size": left.number_input("Batch size", 1, 4096, default.batch_size, key="set_batch"),
        "weight_decay": right.number_input(
            "Weight decay",
            0.0,
            10.0,
            default.weight_decay,
            1e-4,
            format="%g",
            key="set_decay",
            help=fields["weight_decay"].description,
        ),
        "augment": left.selectbox(
            "Augmentation",
            list(AUGMENTS),
            list(AUGMENTS).index(default.augment),
            key="set_augment",
            format_func=AUGMENTS.get,
            help="Flips double the variety, but hide which side a finding is on.",
        ),
    }


def _engine() -> tuple[dict[str, Any], str]:
    """How the same result is computed: time against memory."""
    default = RunConfig()
    left, right = st.columns(2)
    checkpointing = right.toggle(
        "Save memory, take longer",
        default.training.checkpointing,
        key="set_checkpointing",
        help="Gradient checkpointing: each block's activations are computed anew in the backward pass. It "
        "takes longer and needs less memory; nothing can be cached with it.",
    )
    cache = left.toggle(
        "Run unchanging blocks once",
        default.training.cache,
        key="set_cache",
        disabled=checkpointing,
        help="Blocks below the earliest weight that may change give the same for an image in every epoch: with this "
        "they run once an image. It only helps where the weights are chosen in the last blocks.",
    )
    compiled = right.toggle(
        "Compile",
        default.training.compiled,
        key="set_compiled",
        help="Lets torch.compile fuse the steps. The first steps take long, and it needs a C++ compiler.",
    )
    precision = left.selectbox(
        "Precision",
        list(PRECISIONS),
        list(PRECISIONS).index(default.precision),
        key="set_precision",
        format_func=PRECISIONS.get,
        help="bfloat16 can be quicker on graphics cards and recent processors. Weights and gradients keep 32 bits.",
    )
    return {"cache": cache, "checkpointing": checkpointing, "compiled": compiled}, precision
