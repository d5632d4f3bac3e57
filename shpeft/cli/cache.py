"""``shpeft cache``: the resized images that this computer keeps, and how to delete them."""

from shpeft.cli import options, output


def cache(*, clear: bool = False, json: options.Json = False) -> None:
    """Show, or clear, the cache of resized images and of facts about image files.

    Args:
        clear: Delete all of it.
    """
    from shpeft.datasets.cache import OFF, VARIABLE, clear_cache, usage

    if clear:
        clear_cache()
    used = usage(count=True)
    if json:
        output.as_json({**vars(used), "folder": used.folder and str(used.folder)})
    elif used.folder is None:
        print(f"The cache is turned off: {VARIABLE} is '{OFF}'.")
    else:
        print(
            f"{used.folder}\n"
            f"{used.images or 0:,} resized images, {used.pixel_bytes / 2**20:,.1f} MiB of at most "
            f"{used.limit / 2**30:g} GiB; they are made from your images, and only you can read them.\n"
            f"{used.files or 0:,} known files, without their names, {used.index_bytes / 2**20:,.1f} MiB.\n"
            f"Set {VARIABLE} to another folder, or to '{OFF}' to keep nothing; --clear deletes all of it."
        )
