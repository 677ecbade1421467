"""Files that are whole or not there, folders with a manifest, and the format version that our files carry.

A power cut between a write and its sync can leave a file of the right name and the wrong contents; so whatever must
survive one is written beside its place, synced, and renamed. A folder of files (a checkpoint) is sealed by a manifest
of sizes and SHA-256, from which it is known later whether all of it is still as it was written.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import shutil
import tempfile
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from dactcli.errors import ArtefactError, ResourceError, UsageError

FORMAT = 2  # 2: in answers `label` is the data's own value, and the class index is `label_id`
MANIFEST = "manifest.json"
SUMMARY = "summary.json"  # of a finished run


def write_whole(path: Path, text: str, *, remedy: str = "free the disk, or make the folder writable") -> None:
    """Write a text file that is either whole or not there.

    Args:
        path: Where to; a link there is replaced, not followed.
        text: Its contents.
        remedy: What to do when it cannot be written.

    Raises:
        ResourceError: The disk is full, or the folder cannot be written.
    """
    fresh = path.with_name(f".{path.name}.part")
    try:
        try:
            with fresh.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise ResourceError(f"cannot be written: {error.strerror}", place=str(path), remedy=remedy) from None


def write_named(path: Path, text: str, *, remedy: str) -> None:
    """Write a text file that the user named: whole or not at all, except into a pipe or a device.

    Args:
        path: Where to.
        text: Its contents.
        remedy: What to do when it cannot be written.

    Raises:
        ResourceError: It cannot be written.
    """
    if not _is_stream(path):
        write_whole(path.resolve(), text, remedy=remedy)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"cannot be written: {error.strerror}", place=str(path), remedy=remedy) from None


def check_file(path: Path, *, option: str, overwrite: bool) -> None:
    """Prove before any work that a file can be written, and make the folder that it stands in.

    Args:
        path: The file that the user named.
        option: The option that names it.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        UsageError: It is a folder, or a file is there that may not be replaced.
        ResourceError: It cannot be written.
    """
    place = f"{option} {path}"
    try:
        if _is_stream(path):
            return
        if path.is_dir():
            raise UsageError("is a folder", place=place, remedy="name a file")
        if path.exists() and not overwrite:
            raise UsageError("is there already", place=place, remedy="name another file, or add `overwrite`")
        target = path.resolve()
        _take_a_file(target.parent)
        if not path.exists():  # the name itself may be too long, or hold what the disk does not take
            target.touch(exist_ok=False)
            target.unlink()
    except (OSError, ValueError, RuntimeError) as error:  # a name with a zero byte, a link to itself
        raise _unwritable(place, error, "name another file") from None


def check_folder(folder: Path, *, option: str) -> None:
    """Prove before any work that a folder takes files; it is made where it is missing.

    Args:
        folder: The folder that the user named.
        option: The option that names it.

    Raises:
        ResourceError: It cannot be made or written.
    """
    try:
        _take_a_file(folder)
    except (OSError, ValueError) as error:
        raise _unwritable(f"{option} {folder}", error, "name another folder") from None


def _take_a_file(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _is_stream(path: Path) -> bool:
    """Whether a path is a pipe, a device or an open file of a process, which is written in place."""
    special = path.parts[1:2] in (("dev",), ("proc",))
    return path.exists() and not path.is_dir() and (special or not path.is_file())


def _unwritable(place: str, error: Exception, remedy: str) -> ResourceError:
    reason = getattr(error, "strerror", None) or error
    return ResourceError(f"cannot be written: {reason}", place=place, remedy=remedy)


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file that is either whole or not there; a mapping says its format version.

    Args:
        path: Where to.
        document: Plain values.
    """
    write_whole(path, to_json(versioned(document), indent=2) + "\n")


def to_json(value: Any, *, indent: int | None = None, ascii_only: bool = True, sort_keys: bool = False) -> str:
    """JSON that every parser takes: the one function by which all of ours is written.

    NaN and infinity become null. Dates, times and durations become ISO 8601, decimals the string of their digits,
    bytes base64, and what else JSON has no form for its string.

    Args:
        value: What is to be written.
        indent: Spaces by level; None for one line.
        ascii_only: Whether other characters are written as escapes. Without, half of a surrogate pair is still one.
        sort_keys: Whether keys are written in order.
    """
    encode = _encoder(indent, ascii_only, sort_keys).encode
    try:
        text = encode(value)
    except ValueError:  # NaN or infinity somewhere
        text = encode(_finite(value))
    return text if ascii_only or _encodes(text) else to_json(value, indent=indent, sort_keys=sort_keys)


@cache
def _encoder(indent: int | None, ascii_only: bool, sort_keys: bool) -> json.JSONEncoder:
    return json.JSONEncoder(
        indent=indent, ensure_ascii=ascii_only, allow_nan=False, sort_keys=sort_keys, default=_plain
    )


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _finite(value: Any) -> Any:
    """A value in which NaN and infinity are None, all of it plain."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value if value is None or isinstance(value, str | int) else _finite(_plain(value))


def _plain(value: Any) -> Any:
    """What stands in JSON for a value that it has no form for."""
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, timedelta) and not hasattr(value, "isoformat"):
        return _duration(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "item"):  # a scalar of NumPy
        return value.item()
    return list(value) if isinstance(value, set | frozenset) else str(value)


def _duration(value: timedelta) -> str:
    """ISO 8601, in days and seconds: `P1DT30.5S`."""
    sign, whole = ("-", -value) if value < timedelta() else ("", value)
    fraction = f".{whole.microseconds:06d}".rstrip("0") if whole.microseconds else ""
    return f"{sign}P{whole.days}DT{whole.seconds}{fraction}S"


def versioned(document: Any) -> Any:
    """A document with its format version; a list has no room for one and stays as it is."""
    return {"format": FORMAT, **document} if isinstance(document, dict) else document


def check_format(found: Any, place: str) -> None:
    """Refuse what another version of dact wrote in a way that this one does not know.

    Args:
        found: The format version; None for files from before there were versions, which read as version 1.
        place: The file.

    Raises:
        ArtefactError: It is no version that can be read.
    """
    if found is None or (isinstance(found, int) and not isinstance(found, bool) and 1 <= found <= FORMAT):
        return
    newer = isinstance(found, int) and found > FORMAT
    raise ArtefactError(
        f"has format {found!r}, and this dact reads formats up to {FORMAT}",
        place=place,
        remedy="update dact (pip install -U dactcli)" if newer else "write it again",
    )


def sync_folder(folder: Path) -> None:
    """Make what was renamed in a folder last."""
    if os.name != "posix":  # elsewhere folders cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def commit(fresh: Path, final: Path) -> None:
    """Seal a folder with a manifest, sync it, and give it its name; one that had the name is gone after.

    Args:
        fresh: The folder as written, on the same disk.
        final: Its name.
    """
    files = {
        path.relative_to(fresh).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in files_below(fresh)
    }
    write_json(fresh / MANIFEST, {"files": files})
    put(fresh, final)


def put(fresh: Path, final: Path) -> None:
    """Sync a folder and give it its name; one that had the name is gone after.

    Args:
        fresh: The folder as written, on the same disk.
        final: Its name.
    """
    for path in files_below(fresh):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if final.exists():
        shutil.rmtree(final)
    fresh.rename(final)
    sync_folder(final.parent)


def files_below(folder: Path) -> list[Path]:
    """The files of a folder and of those in it, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def read_document(path: Path) -> dict[str, Any]:
    """A JSON object that is only told from, not relied on: empty where the file is missing or damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def faults(folder: Path) -> dict[str, str]:
    """What is wrong with a sealed folder.

    Args:
        folder: As `commit` left it, once.

    Returns:
        By file: `is missing` or `is damaged`; empty when all is as it was written.
    """
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in listed.items()}
    except FileNotFoundError:
        return {MANIFEST: "is missing"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {MANIFEST: "is damaged"}
    found = {}
    for name, (size, digest) in expected.items():
        path = folder / name
        if not path.is_file():
            found[name] = "is missing"
        elif path.stat().st_size != size or sha256(path) != digest:
            found[name] = "is damaged"
    return found
