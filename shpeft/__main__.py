"""``python -m shpeft`` is the ``shpeft`` command."""

from shpeft.cli import main

main()
