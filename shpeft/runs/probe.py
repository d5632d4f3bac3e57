"""``probe.safetensors``: the head of the linear probe, which stands beside the fine-tuned model on any images."""

from pathlib import Path
from typing import TYPE_CHECKING

from shpeft.runs.run_file import RunFile

if TYPE_CHECKING:
    from shpeft.linear_probe import Head


class ProbeFile:
    """The linear probe of a run."""

    def __init__(self, folder: Path) -> None:
        self._file = RunFile(folder, "probe.safetensors")

    def write(self, head: "Head") -> None:
        """Write the head."""
        import safetensors.torch

        self._file.write(safetensors.torch.save({"weight": head.weight.contiguous(), "bias": head.bias.contiguous()}))

    def read(self) -> "Head | None":
        """Return the head, or None in a run of an older version.

        Raises:
            RunError: the file is damaged.
        """
        return self._file.parse_if_exists(_parse)


def _parse(data: bytes) -> "Head":
    import safetensors.torch

    from shpeft.linear_probe import Head

    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None
    return Head(tensors["weight"], tensors["bias"])
