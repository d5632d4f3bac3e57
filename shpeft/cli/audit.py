"""``shpeft audit``: which account diagnosed or stored what."""

import sys
from dataclasses import astuple, fields

from shpeft.cli import options, output


def audit(*, account: str = "", case: str = "", run: str = "", since: str = "", json: options.Json = False) -> None:
    """Show which account of the app diagnosed which case with which model, or stored its results, oldest first.

    Args:
        account: Only this account, by its id.
        case: Only this image, by its id.
        run: Only this run.
        since: Only from this day or moment on, in UTC, as 2026-11-30 or 2026-11-30T16:00.
    """
    from shpeft.runs.audit import AuditEntry, AuditLog

    asked = {"account": account, "case": case, "run": run}
    rows, damaged = list[AuditEntry](), 0
    for entry in AuditLog().entries():
        if entry is None:
            damaged += 1
        elif entry.time >= since and all(not value or getattr(entry, name) == value for name, value in asked.items()):
            rows.append(entry)
    if json:
        output.as_json([vars(row) for row in rows])
    else:
        output.table([field.name for field in fields(AuditEntry)], [list(astuple(row)) for row in rows])
        print(f"{len(rows):,} entries in {AuditLog().path.absolute()}", file=sys.stderr)
    if damaged:
        print(f"{damaged:,} lines cannot be read: the log was cut off or changed.", file=sys.stderr)
