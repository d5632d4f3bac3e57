"""What stands in a run folder's files, to and from bytes. Nothing here holds a path or a name of an image."""

import csv
import dataclasses
import io
import json
import math
import os
import platform
import re
import traceback
import zipfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shpeft import __version__
from shpeft.errors import ShpeftError

if TYPE_CHECKING:
    from shpeft.backbones import WeightInfo
    from shpeft.evaluation import Predictions
    from shpeft.selection import Support
    from shpeft.summaries import LayerSummary
    from shpeft.training import EpochReport
    from shpeft.trust import NoveltyDetector, Trust

DAMAGE = (
    ShpeftError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    EOFError,
    zipfile.BadZipFile,
)
"""What reading a damaged file may raise."""

TRUST_FORMAT, NOVELTY_FORMAT = "shpeft.trust/1", "shpeft.novelty/1"
NOVELTY_ARRAYS = ("mean", "directions", "variances", "reference")

LIBRARIES = ("torch", "timm", "numpy", "scikit-learn", "safetensors", "captum", "pillow")


def plain(value: Any) -> Any:
    """Dataclasses, tuples and NumPy numbers as what JSON knows; NaN and infinities become None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def environment() -> dict[str, Any]:
    """Versions of Python, the system and the libraries; no name of a machine or a person."""
    versions: dict[str, str | None] = {"shpeft": __version__}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = None
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "processors": os.cpu_count(),
        "libraries": versions,
    }


def processor() -> str:
    """The processor's make, on which the last bits of a training depend."""
    told = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", told.read_text()) if told.exists() else None
    return model[1] if model else platform.processor() or platform.machine()


def traceback_text(error: BaseException) -> str:
    """A traceback with the code's own places, and with whatever looks like a file in its messages blotted out."""
    lines = []
    for line in traceback.format_exception(error):
        if line.startswith('  File "'):
            lines.append(line)
        else:
            line = re.sub(r"""(['"])(?:(?!\1).)*([/\\]|\.\w{2,5}\1)(?:(?!\1).)*\1?""", "<file>", line)
            lines.append(re.sub(r"\S*[/\\]\S+|\S+\.(?i:png|jpe?g|bmp|tiff?|gif|webp|dcm|nii|gz|csv)\b", "<file>", line))
    return "".join(lines)


def reports_text(reports: "Sequence[EpochReport]") -> str:
    """Epochs as ``metrics.jsonl`` holds them: a line each."""
    return "".join(json.dumps(plain(report)) + "\n" for report in reports)


def parse_reports(text: str) -> "list[EpochReport]":
    """The epochs of ``metrics.jsonl``."""
    from shpeft.training import EpochReport

    reports = []
    for line in filter(None, text.splitlines()):
        row: dict[str, Any] = {key: math.nan if item is None else item for key, item in json.loads(line).items()}
        reports.append(EpochReport(**row))
    return reports


def support_bytes(supports: "Mapping[str, Support]", infos: "Sequence[WeightInfo]") -> bytes:
    """Supports as safetensors: ``<which>/<weight>`` holds ascending flat indices (int32)."""
    import numpy as np
    from safetensors.numpy import save

    tensors = {
        f"{which}/{name}": indices.cpu().numpy().astype(np.int32)
        for which, support in supports.items()
        for name, indices in support.indices.items()
    }
    about = {
        "format": "shpeft.support/1",
        "totals": {which: support.total for which, support in supports.items()},
        "eligible": [plain(info) for info in infos],
    }
    return save(tensors, metadata={"shpeft": json.dumps(about, sort_keys=True)})


def parse_support(data: bytes, which: str) -> "Support":
    """One of the supports that ``support_bytes`` wrote."""
    import numpy as np
    import torch
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from shpeft.selection import Support

    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    total = _one_of(described(data)["totals"], which)
    shapes, indices = {}, {}
    for info in parse_infos(data):
        if f"{which}/{info.name}" in tensors:
            shapes[info.name] = info.shape
            indices[info.name] = torch.from_numpy(tensors[f"{which}/{info.name}"].astype(np.int64))
    return Support(indices=indices, shapes=shapes, total=total)


def parse_infos(data: bytes) -> "tuple[WeightInfo, ...]":
    """The eligible weights that ``support_bytes`` wrote."""
    from shpeft.backbones import WeightInfo

    return tuple(WeightInfo(**{**row, "shape": tuple(row["shape"])}) for row in described(data)["eligible"])


def described(data: bytes) -> dict[str, Any]:
    """What the header of a safetensors file of a run folder says."""
    length = int.from_bytes(data[:8], "little")
    found: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["shpeft"])
    return found


def summaries_bytes(summaries: "Mapping[str, Sequence[LayerSummary]]") -> bytes:
    """Layer summaries as npz: ``<which>/<field>`` is one array with a row a layer."""
    import numpy as np

    arrays = {}
    for which, layers in summaries.items():
        for field in dataclasses.fields(layers[0]):
            arrays[f"{which}/{field.name}"] = np.array([np.asarray(getattr(layer, field.name)) for layer in layers])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def summaries_csv(layers: "Sequence[LayerSummary]") -> str:
    """A row a parameter: its place, its size, how many weights are chosen, and its scores."""
    lines = ["name,block,matrix,weights,selected,density,mean,maximum,q01,q25,q50,q75,q99"]
    for layer in layers:
        numbers = (layer.numel, layer.selected, layer.density, layer.mean, layer.maximum)
        lines.append(",".join(map(str, (layer.name, layer.block, layer.matrix, *numbers, *layer.quantiles))))
    return "\n".join(lines) + "\n"


def parse_summaries(data: bytes, which: str) -> "list[LayerSummary]":
    """The layer summaries of one score."""
    import numpy as np

    from shpeft.summaries import LayerSummary

    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        _one_of({name.split("/", 1)[0]: None for name in archive.files}, which)
        columns = {field.name: archive[f"{which}/{field.name}"] for field in dataclasses.fields(LayerSummary)}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [LayerSummary(**{name: _scalar_or_tuple(value) for name, value in row.items()}) for row in rows]


def predictions_text(predictions: "Mapping[str, Predictions]") -> str:
    """CSV with a row a case: opaque id, numbered group, label, subgroup where one is known, and probabilities.

    These are called ``<model>:<class>`` and stand in full precision. Groups are numbered (a group's name may be a
    patient's), in their order, so that the same seed resamples alike.
    """
    first = next(iter(predictions.values()))
    numbers = {group: f"{number:06d}" for number, group in enumerate(sorted(set(first.groups)), start=1)}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    known = ["subgroup"] if first.subgroups else []
    writer.writerow(["id", "group", "label", *known, *(f"{m}:{c}" for m, p in predictions.items() for c in p.classes)])
    for row, (case, group, label) in enumerate(zip(first.ids, first.groups, first.labels, strict=True)):
        values = [repr(float(value)) for p in predictions.values() for value in p.probabilities[row]]
        known = [first.subgroups[row]] if first.subgroups else []
        writer.writerow([case, numbers[group], first.classes[int(label)], *known, *values])
    return out.getvalue()


def parse_predictions(text: str, which: str) -> "Predictions":
    """One model's predictions; groups carry their numbers."""
    import numpy as np

    from shpeft.evaluation import Predictions

    header, *rows = csv.reader(io.StringIO(text))
    known = header[3:4] == ["subgroup"]
    models = [column.split(":", 1)[0] for column in header[3 + known :]]
    _one_of(dict.fromkeys(models), which)
    chosen = [position for position, model in enumerate(models, start=3 + known) if model == which]
    classes = tuple(header[position].split(":", 1)[1] for position in chosen)
    return Predictions(
        ids=tuple(row[0] for row in rows),
        labels=tuple(classes.index(row[2]) for row in rows),
        groups=tuple(row[1] for row in rows),
        classes=classes,
        probabilities=np.array([[float(row[position]) for position in chosen] for row in rows], dtype=np.float64),
        subgroups=tuple(row[3] for row in rows) if known else (),
    )


def trust_text(trust: "Trust") -> str:
    """Trust as JSON."""
    return json.dumps({"format": TRUST_FORMAT, **plain(trust)}, indent=1, ensure_ascii=False) + "\n"


def parse_trust(data: bytes) -> "Trust":
    """The trust that ``trust_text`` wrote."""
    from pydantic import TypeAdapter

    from shpeft.trust import Trust

    found = json.loads(data)
    if found.pop("format", None) != TRUST_FORMAT:
        raise ValueError(f"it is not of the format {TRUST_FORMAT}")
    trust: Trust = TypeAdapter(Trust).validate_python(found)
    return trust


def novelty_bytes(detector: "NoveltyDetector") -> bytes:
    """A detector as safetensors: its arrays, and its numbers in the metadata."""
    from safetensors.numpy import save

    arrays = {name: getattr(detector, name) for name in NOVELTY_ARRAYS}
    numbers = {"rest": detector.rest, "limit": detector.limit, "cases": detector.cases}
    return save(arrays, metadata={"shpeft": json.dumps({"format": NOVELTY_FORMAT, **numbers}, sort_keys=True)})


def parse_novelty(data: bytes) -> "NoveltyDetector":
    """The detector that ``novelty_bytes`` wrote."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from shpeft.trust import NoveltyDetector

    try:
        arrays: dict[str, Any] = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    numbers = described(data)
    if numbers.pop("format") != NOVELTY_FORMAT:
        raise ValueError(f"it is not of the format {NOVELTY_FORMAT}")
    return NoveltyDetector(**arrays, **numbers)


def _one_of(found: Mapping[str, Any], which: str) -> Any:
    """The entry called ``which``, or an error that lists the others."""
    if which not in found:
        raise ValueError(f"it holds {', '.join(sorted(found))}, not {which}")
    return found[which]


def _scalar_or_tuple(value: Any) -> Any:
    """A NumPy scalar as a Python one, an array as a tuple."""
    return tuple(value.tolist()) if getattr(value, "ndim", 0) else value.item()
