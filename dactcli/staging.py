"""Folders that commands write: checked before the work, written beside their place, and renamed when they are complete.

A failure leaves nothing behind.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dactcli.errors import ResourceError, UsageError
from dactcli.storage import check_folder, put


def check_target(target: Path, run: Path, *, overwrite: bool, noun: str, ours: Callable[[Path], bool]) -> None:
    """Refuse a folder that must not be written, before any work.

    Args:
        target: The folder to write.
        run: The run that it is made from.
        overwrite: Whether an earlier folder of this kind may be replaced.
        noun: What such a folder is called.
        ours: Whether a folder is one of this kind.

    Raises:
        UsageError: Something is there that this would destroy.
        ResourceError: The folder that it is to stand in cannot be made or written.
    """
    place = f"`to` {target}"
    here, inside = target.resolve(), run.resolve()
    if here == inside or inside.is_relative_to(here):
        raise UsageError("is where the run itself stands", place=place, remedy="name another folder")
    if here.is_relative_to(inside):
        raise UsageError("is inside the run's own folder", place=place, remedy="name another folder")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UsageError("is not a folder", place=place, remedy="name another one, or move it away")
    try:
        check_folder(here.parent, option="`to`")
    except ResourceError as error:
        raise ResourceError(error.fault, place=str(target), remedy="name another folder") from None
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not overwrite:
        raise UsageError("already exists", place=place, remedy="name another folder, or add `overwrite`")
    if not ours(target):
        raise UsageError(f"is not {noun} and is not replaced", place=place, remedy="name another folder")


@contextmanager
def staging(target: Path | None) -> Iterator[Path]:
    """A new folder to write in; it is gone afterwards, unless `finish` gave it its name.

    Args:
        target: Where it is to stand, so that it is on the same disk; None for a temporary place.

    Raises:
        ResourceError: It cannot be made or written.
    """
    if target is None:
        with tempfile.TemporaryDirectory(prefix="dact-") as folder:
            yield Path(folder)
        return
    fresh = target.with_name(f".{target.name}.part")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
    except OSError as error:
        raise unwritable(target, error) from None
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def finish(fresh: Path, target: Path) -> None:
    """Give the folder its name.

    Args:
        fresh: As `staging` gave it.
        target: Its name; what had it is gone after.

    Raises:
        ResourceError: The disk does not take it.
    """
    try:
        put(fresh, target)
    except OSError as error:
        raise unwritable(target, error) from None


def unwritable(target: Path, error: OSError) -> ResourceError:
    """The error of a folder that the disk does not take."""
    return ResourceError(
        f"cannot be written: {error.strerror or error}",
        place=str(target),
        remedy="free the disk, or name another folder",
    )
