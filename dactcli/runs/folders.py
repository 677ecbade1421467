"""Run folders: `<output.dir>/<output.name>-<n>`, and `latest`, which names the newest finished one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dactcli.errors import ArtefactError, ResourceError
from dactcli.storage import SUMMARY, check_folder, write_json

LOCK = ".lock"


def check_writable(folder: Path) -> None:
    """Make the output folder and prove that it takes files, before any work is done.

    Args:
        folder: `output.dir`.

    Raises:
        ResourceError: It cannot be made or written.
    """
    try:
        check_folder(folder, option="output.dir")
    except ResourceError as error:
        raise _unusable("the output folder", folder, error.fault) from None


def _unusable(what: str, folder: Path, fault: str) -> ResourceError:
    return ResourceError(
        f"{what} {fault}", place=str(folder), remedy="choose another one with `overrides` output.dir=FOLDER"
    )


def runs_named(folder: Path, name: str) -> list[Path]:
    """The runs of a name, oldest first.

    Args:
        folder: `output.dir`.
        name: `output.name`.
    """
    pattern = re.compile(re.escape(name) + r"-(\d+)")
    found = {p: m for p in folder.glob("*") if p.is_dir() and not p.is_symlink() and (m := pattern.fullmatch(p.name))}
    return sorted(found, key=lambda path: int(found[path].group(1)))


def unfinished(folder: Path, name: str) -> Path | None:
    """The newest run of a name that began and did not come to its end.

    Args:
        folder: `output.dir`.
        name: `output.name`.
    """
    begun = [run for run in runs_named(folder, name) if (run / "recipe.yaml").is_file()]
    return next((run for run in reversed(begun) if not is_finished(run)), None)


def new_run(folder: Path, name: str) -> Path:
    """Make the next free run folder.

    Args:
        folder: `output.dir`, which exists.
        name: `output.name`.

    Returns:
        The new, empty folder.

    Raises:
        ResourceError: It cannot be made.
    """
    runs = runs_named(folder, name)
    number = int(runs[-1].name.rpartition("-")[2]) if runs else 0
    while True:
        number += 1
        path = folder / f"{name}-{number}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise _unusable("the run folder", path, f"cannot be written: {error.strerror}") from None
        return path


def is_finished(run: Path) -> bool:
    """Whether a run came to its end: its summary is written last."""
    return (run / SUMMARY).is_file()


def finish(run: Path, summary: dict[str, Any]) -> None:
    """Write the summary, and make `latest` name this run.

    Args:
        run: The run folder.
        summary: The result and how it came about.
    """
    write_json(run / SUMMARY, summary)
    link = run.parent / "latest"
    fresh = run.parent / f".latest-{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(run.name, target_is_directory=True)
    try:
        fresh.replace(link)
    except OSError as error:  # a folder of that name
        fresh.unlink()
        raise ResourceError(
            f"is no link and cannot become one: {error.strerror}; the run itself is finished",
            place=str(link),
            remedy="move it away",
        ) from None


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep other processes from training in a run folder; the lock goes with the process, however it ends.

    Args:
        run: The run folder.

    Raises:
        ResourceError: Another process holds it.
    """
    lock = FileLock(run / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ResourceError(
            "another process is training in this folder",
            place=str(run),
            remedy="wait for it, or leave out `resume` to begin a new run",
        ) from None
    try:
        yield
    finally:
        if is_finished(run):
            (run / LOCK).unlink(missing_ok=True)
        lock.release()


def refuse_links(run: Path) -> None:
    """Refuse a run folder in which a link leads elsewhere, so that nothing outside it is written.

    Args:
        run: A run that is to be gone on with.

    Raises:
        ArtefactError: There is such a link.
    """
    inside = run.resolve()
    for path in run.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise ArtefactError(
                f"is a link to {path.resolve()}, out of the run folder",
                place=str(path),
                remedy="put the file itself there, or begin a new run",
            )
