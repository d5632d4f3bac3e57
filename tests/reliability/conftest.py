"""The figures at the end of ``make reliability``."""

import pytest

from tests.reliability.figures import summary


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each check."""
    for line in summary():
        terminalreporter.write_line(line)
