"""Find the class to explain, by name or by index."""

from collections.abc import Sequence

from shpeft.errors import DiagnosisError, did_you_mean


def target_index(target: str | int, classes: Sequence[str]) -> int:
    """Return the index of a class, given by name or by index.

    Raises:
        DiagnosisError: an unknown name, or an index out of range.

    Examples:
        >>> target_index("ill", ("healthy", "ill")), target_index(0, ("healthy", "ill"))
        (1, 0)
    """
    if isinstance(target, str):
        if target not in classes:
            raise DiagnosisError(f"There is no class {target!r}. {did_you_mean(target, classes)}")
        return list(classes).index(target)
    if not 0 <= target < len(classes):
        raise DiagnosisError(
            f"The target index {target} is out of range. Give an index from 0 to {len(classes) - 1}, or a class name: "
            f"{', '.join(classes)}."
        )
    return int(target)
