"""Which worker runs which tests: a file stays together, and so do the browser's files that share a trained run."""

from xdist.scheduler import LoadScopeScheduling

BROWSER = "tests/browser/"
WITHOUT_THE_RUN = tuple(
    f"{BROWSER}test_{topic}_in_browser.py" for topic in ("accounts", "hostile_text", "typed_path", "viewer")
)
"""Files that need no trained run, or launch servers of their own."""


class FilesTogether(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hand out whole files, and the browser's files as two parts, each with its server."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(WITHOUT_THE_RUN):
            return f"{BROWSER}without the run"
        return BROWSER if nodeid.startswith(BROWSER) else nodeid.partition("::")[0]
