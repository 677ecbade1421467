"""Run folders: `<output.dir>/<output.name>-<n>`, and `latest`, which names the newest finished one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dactcli.errors import ArtefactError, ResourceError, did_you_mean
from dactcli.runtime.manifest import is_export
from dactcli.storage import SUMMARY, check_folder, write_json

LOCK = ".lock"
ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)")
LATEST = Path("runs/latest")  # relative to the current folder


def check_writable(folder: Path) -> None:
    """Create the output folder and check that it is writable, before any work.

    Args:
        folder: `output.dir`.

    Raises:
        ResourceError: The folder cannot be created or written.
    """
    try:
        check_folder(folder, option="output.dir")
    except ResourceError as error:
        raise _unusable("the output folder", folder, error.fault) from None


def _unusable(what: str, folder: Path, fault: str) -> ResourceError:
    return ResourceError(
        f"{what} {fault}", place=str(folder), remedy="choose another one with `overrides` output.dir=FOLDER"
    )


def find_run(path: Path | None) -> Path:
    """The folder of a run.

    Args:
        path: A run folder or saved model; None for the newest finished run, `runs/latest`.

    Raises:
        ArtefactError: No such run exists; the message names the command that makes one.
    """
    if path is None:
        if not LATEST.exists():
            others = sorted(str(summary.parent) for summary in LATEST.parent.glob("*/summary.json"))
            if others:
                remedy = f"name a run: {', '.join(others[:5])}"
                raise ArtefactError("is not there", place=str(LATEST), remedy=remedy)
            raise ArtefactError(
                "there is no finished run in this folder",
                place=str(LATEST),
                remedy="name one, or make one with: dact finetune recipes/quickstart.yaml",
            )
        return LATEST.resolve()
    if not path.exists():
        raise _missing(path)
    if not path.is_dir():
        raise ArtefactError(
            "is a file, not a run", place=str(path), remedy=_instead(path.parent, "give a run's folder")
        )
    if is_export(path):
        fault, remedy = "is an export, and this needs the run", "give the run that it was made from"
        raise ArtefactError(fault, place=str(path), remedy=remedy)
    if not any((path / name).is_file() for name in ("config.json", "recipe.yaml")):
        remedy = _instead(path, "give a run's folder, or that of a saved model")
        raise ArtefactError("is not a run: it has no config.json", place=str(path), remedy=remedy)
    return path


def _missing(path: Path) -> ArtefactError:
    """The error of a path at which nothing is."""
    if match := ADDRESS.fullmatch(str(path)):  # a path takes one slash away
        fault, remedy = "is an address, and runs are read from folders", "download it, and give its folder"
        return ArtefactError(fault, place=f"{match[1]}://{match[2]}", remedy=remedy)
    known = [*_runs_in(path.parent), *_runs_in(LATEST.parent)]
    named = [run for run in known if Path(run).name == path.name]
    remedy = f"did you mean {named[0]}?" if named else did_you_mean(str(path), list(dict.fromkeys(known)))
    return ArtefactError("no such run", place=str(path), remedy=remedy if known else "give a run folder")


def _runs_in(folder: Path) -> list[str]:
    """The folders in a folder that hold a model or a training."""
    found = {path.parent for name in ("config.json", "recipe.yaml") for path in folder.glob(f"*/{name}")}
    return sorted(str(path) for path in found if not path.is_symlink())


def _instead(folder: Path, otherwise: str) -> str:
    """The run that a folder is or holds, for an error."""
    runs = [str(folder)] if (folder / "config.json").is_file() else _runs_in(folder)
    return f"give a run: {', '.join(runs[:5])}" if runs else otherwise


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
    """The newest unfinished run of a name.

    Args:
        folder: `output.dir`.
        name: `output.name`.
    """
    begun = [run for run in runs_named(folder, name) if (run / "recipe.yaml").is_file()]
    return next((run for run in reversed(begun) if not is_finished(run)), None)


def new_run(folder: Path, name: str) -> Path:
    """Create the next free run folder.

    Args:
        folder: `output.dir`, which exists.
        name: `output.name`.

    Returns:
        The new, empty folder.

    Raises:
        ResourceError: The folder cannot be created.
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
    """Whether a run is finished. Its summary is written last."""
    return (run / SUMMARY).is_file()


def finish(run: Path, summary: dict[str, Any]) -> None:
    """Write the summary, and make `latest` name this run.

    Args:
        run: The run folder.
        summary: The result and its circumstances.
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
            f"cannot be replaced by a link to the run: {error.strerror}; the run itself is finished",
            place=str(link),
            remedy="move it away",
        ) from None


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Lock a run folder against other training processes. The lock ends with the process, however it ends.

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
            remedy="wait for it, or leave out `resume` to start a new run",
        ) from None
    try:
        yield
    finally:
        if is_finished(run):
            (run / LOCK).unlink(missing_ok=True)
        lock.release()


def refuse_links(run: Path) -> None:
    """Refuse a run folder with links to other places, so that nothing outside the folder is written.

    Args:
        run: The run to resume.

    Raises:
        ArtefactError: A link leads out of the folder.
    """
    inside = run.resolve()
    for path in run.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise ArtefactError(
                f"is a link to {path.resolve()}, outside the run folder",
                place=str(path),
                remedy="put the file itself there, or begin a new run",
            )
