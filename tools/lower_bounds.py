"""Print pip constraints that pin every declared requirement to its lower bound.

python tools/lower_bounds.py > constraints.txt
pip install --constraint constraints.txt --editable '.[dicom,pdf]' --group test
"""

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[.*\])?>=([0-9.]+)(?:,<[0-9.]+)?(?:; .+)?")


def lower_bounds(pyproject: str) -> list[str]:
    """Return ``name==version`` for each requirement of the project, its extras and its dependency groups.

    Raises:
        ValueError: A requirement has no lower bound.
    """
    table = tomllib.loads(pyproject)
    project = table["project"]
    lists = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *table["dependency-groups"].values(),
    ]
    pins = set()
    for requirement in (entry for entries in lists for entry in entries):
        if isinstance(requirement, dict) or requirement.startswith(f"{project['name']}["):
            continue  # another group, or an extra of the project itself: listed on its own
        bound = REQUIREMENT.fullmatch(requirement)
        if bound is None:
            raise ValueError(f"{requirement!r} in pyproject.toml has no lower bound; write NAME>=VERSION.")
        pins.add(f"{bound[1]}=={bound[2]}")
    return sorted(pins)


if __name__ == "__main__":
    print("\n".join(lower_bounds(PYPROJECT.read_text())))
