"""Sort DICOM files into series: each a case, its slices in their order in the patient."""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

from shpeft.batch.inputs import Entry, Source
from shpeft.config.schema import SeriesRule
from shpeft.errors import DiagnosisError, UnreadableImage
from shpeft.images import SUFFIXES
from shpeft.images.dicom import SUFFIXES as DICOM_SUFFIXES
from shpeft.images.series import SliceHeader, in_order, read_slices
from shpeft.support.progress import Progress, silent

TWICE = "The same image comes twice."

NOT_DICOM = frozenset(SUFFIXES) - frozenset(DICOM_SUFFIXES)
"""Suffixes of other formats."""

MOST_SLICES = 5_000
"""Most slices of a series; a CT of the whole body at 0.5 mm has about 4,000."""


@dataclass(frozen=True)
class Slice:
    """One frame of a file, how to read the file, and the SHA-256 of its content."""

    entry: Entry
    header: SliceHeader
    digest: bytes


@dataclass(frozen=True)
class Series:
    """The slices of one series, in their order in the patient."""

    slices: tuple[Slice, ...]

    def __len__(self) -> int:
        return len(self.slices)

    @property
    def id(self) -> str:
        """Its id in a batch's CSV."""
        return f"case-{self.identity}"

    @property
    def entries(self) -> list[Entry]:
        """The files, in the order of their slices."""
        return list(dict.fromkeys(each.entry for each in self.slices))

    @cached_property
    def identity(self) -> str:
        """An opaque id, made of the content of the slices in their order."""
        return hashlib.sha256(b"".join(each.digest for each in self.slices)).hexdigest()[:12]


@dataclass(frozen=True)
class SeriesList:
    """The series of some files.

    Attributes:
        series: in the order of their first files.
        left_out: (name, reason) of each file that is no slice; a file that comes twice is left out once.
    """

    series: tuple[Series, ...]
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SeriesSource:
    """The cases of a batch in which the files of a series are one case.

    Attributes:
        cases: series of several files, and every other image by itself, in the order of their first files.
        others: number of files that are not images.
        left_out: (name, reason) of slices that come twice.
        rule: how a series is answered.
    """

    cases: tuple[Series | Entry, ...]
    others: int = 0
    left_out: tuple[tuple[str, str], ...] = ()
    rule: SeriesRule = "highest-risk"

    @property
    def series(self) -> tuple[Series, ...]:
        """The series among the cases."""
        return tuple(case for case in self.cases if isinstance(case, Series))


def list_series(source: Source, progress: Progress = silent) -> SeriesList:
    """Sort files into series, and the slices of each into their order in the patient.

    Files are read one at a time. Every frame of an enhanced or multi-frame file is a slice.

    Args:
        source: the files.
        progress: the progress callback.

    Raises:
        DiagnosisError: no file belongs to a series, or a series has more than :data:`MOST_SLICES` slices.
    """
    groups: dict[tuple[str, str], list[Slice]] = {}
    left_out = list[tuple[str, str]]()
    for entry, slices in _slices(source, progress):
        if isinstance(slices, str):
            left_out.append((entry.name, slices))
        else:
            groups.setdefault(slices[0].header.series, []).extend(slices)
    if not groups:
        raise DiagnosisError(
            "None of the files is a slice of a DICOM series. Without --series-rule, images are single."
        )
    return SeriesList(tuple(_ordered(group) for group in groups.values()), tuple(left_out))


def by_series(source: Source, rule: SeriesRule = "highest-risk", progress: Progress = silent) -> SeriesSource:
    """Return the cases of some files: the files of a series are one, and every other image is one.

    A file that is alone in its series stays an image, its frames included: that is how most radiographs come. Files
    that are named as another format, such as ``.png``, are not read.

    Args:
        source: the files.
        rule: how a series is answered.
        progress: the progress callback.

    Raises:
        DiagnosisError: a series has more than :data:`MOST_SLICES` slices.
    """
    groups: dict[object, list[tuple[Entry, tuple[Slice, ...]]]] = {}
    left_out = list[tuple[str, str]]()
    for entry, slices in _slices(source, progress, NOT_DICOM):
        if slices == TWICE:
            left_out.append((entry.name, TWICE))
        elif isinstance(slices, str):
            groups[entry] = [(entry, ())]
        else:
            groups.setdefault(slices[0].header.series, []).append((entry, slices))
    cases = (
        files[0][0] if len(files) == 1 else _ordered([each for _, slices in files for each in slices])
        for files in groups.values()
    )
    return SeriesSource(tuple(cases), source.others, tuple(left_out), rule)


def _slices(
    source: Source, progress: Progress, skipped: Collection[str] = ()
) -> Iterator[tuple[Entry, tuple[Slice, ...] | str]]:
    """Yield each file with its slices, or with the reason why it has none; files of some suffixes are not read."""
    seen = set[str]()
    for number, entry in enumerate(source.entries):
        progress("reading headers", number, len(source.entries))
        if PurePath(entry.name).suffix.lower() in skipped:
            yield entry, "The file is not DICOM, so it belongs to no series."
            continue
        try:
            data = entry.read()
            headers = read_slices(data)
        except UnreadableImage as error:
            yield entry, str(error)
            continue
        if (instance := headers[0].instance) and instance in seen:
            yield entry, TWICE
            continue
        seen.add(instance)
        digest = hashlib.sha256(data).digest()
        yield entry, tuple(Slice(entry, header, digest) for header in headers)


def _ordered(slices: list[Slice]) -> Series:
    """Return a series with its slices in order."""
    if len(slices) > MOST_SLICES:
        raise DiagnosisError(f"A series has {len(slices):,} slices; at most {MOST_SLICES:,} are read.")
    return Series(tuple(slices[i] for i in in_order([each.header for each in slices])))
