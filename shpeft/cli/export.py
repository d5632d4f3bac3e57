"""``shpeft export``: a run's model for timm, PyTorch or ONNX, or as a folder to share."""

from pathlib import Path
from typing import Literal

from shpeft.cli import options, output
from shpeft.cli.runs import open_run


def export(
    run: str,
    /,
    *,
    to: Literal["timm", "torch-export", "onnx", "peft", "hub"],
    out: Path | None = None,
    weights: str | None = None,
    program: Path | None = None,
    json: options.Json = False,
) -> None:
    """Write a run's model for another program, and check it against the run's own logits.

    Args:
        run: A run folder, or the name of a run.
        to: timm (merged weights with timm's configuration), torch-export (a program for PyTorch), onnx (a program for
            ONNX), peft (a SHiRA adapter for Hugging Face's peft), or hub (a folder to share: card, configuration and
            delta).
        out: The file or folder; by default named after the run, in the working directory.
        weights: The new path of the base weights, if they were moved.
        program: A program that was exported from another run of the same base weights: only the trained values are
            replaced in it, with the same result as a new export.
    """
    folder = open_run(run)
    from shpeft.pipeline import export_model

    written = export_model(folder, to, out, weights=weights, program=program)
    if json:
        output.as_json({"path": str(written.path), "difference": written.difference})
        return
    print(f"The model is {written.path}.")
    if written.difference is not None:
        print(f"Largest difference of its logits from the run's own: {written.difference:.2g}.")
    output.notice()
