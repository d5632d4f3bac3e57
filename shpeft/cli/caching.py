"""``shpeft cache``: what is kept of images on this computer, and how to get rid of it."""

from typing import Annotated

import typer

from shpeft.cli import console, options


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Forget all of it.")] = False,
    json: options.Json = False,
) -> None:
    """Show, or clear, the cache of resized images and of what was learned of image files."""
    from shpeft.datasets.cache import OFF, VARIABLE, clear_cache, usage

    if clear:
        clear_cache()
    found = usage(count=True)
    if json:
        console.as_json({**vars(found), "folder": found.folder and str(found.folder)})
    elif found.folder is None:
        typer.echo(f"The cache is turned off: {VARIABLE} is '{OFF}'.")
    else:
        typer.echo(
            f"{found.folder}\n"
            f"{found.images or 0:,} resized images, {found.pixel_bytes / 2**20:,.1f} MiB of at most "
            f"{found.limit / 2**30:g} GiB; they derive from your images, and only you may read them.\n"
            f"{found.files or 0:,} files known, without their names, {found.index_bytes / 2**20:,.1f} MiB.\n"
            f"Set {VARIABLE} to another folder, or to '{OFF}' to keep nothing; --clear forgets all of it."
        )
