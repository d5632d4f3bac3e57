"""Which worker runs which tests: a file stays together, and all files of the browser, which share one server."""

from xdist.scheduler import LoadScopeScheduling

BROWSER = "tests/browser/"


class FilesTogether(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hand out whole files, and the browser's files as one."""

    def _split_scope(self, nodeid: str) -> str:
        return BROWSER if nodeid.startswith(BROWSER) else nodeid.partition("::")[0]
