"""Atomic file writes, folders sealed by a manifest, and the format version of JSON files.

A power cut between a write and its sync can leave a file with the right name and the wrong contents. Files that must
survive a power cut are therefore written to a temporary name, synced, and renamed. A manifest of sizes and SHA-256
digests seals a folder (a checkpoint), so that missing and damaged files are found later.
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
SUMMARY = "summary.json"  # exists only in finished runs


def write_whole(path: Path, text: str, *, remedy: str = "free the disk, or make the folder writable") -> None:
    """Write a text file atomically.

    Args:
        path: The file. A symbolic link is replaced, not followed.
        text: The contents.
        remedy: Remedy for the error message if the file cannot be written.

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
    """Write a text file that the user named. The write is atomic unless the path is a pipe or a device.

    Args:
        path: The file. A symbolic link is followed.
        text: The contents.
        remedy: Remedy for the error message if the file cannot be written.

    Raises:
        ResourceError: The file cannot be written.
    """
    if not _is_stream(path):
        write_whole(path.resolve(), text, remedy=remedy)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"cannot be written: {error.strerror}", place=str(path), remedy=remedy) from None


def check_file(path: Path, *, option: str, overwrite: bool) -> None:
    """Check, before any work, that a file can be written; create its folder.

    Args:
        path: The file that the user named.
        option: The option that names it.
        overwrite: Whether an existing file may be replaced.

    Raises:
        UsageError: The path is a folder, or an existing file that may not be replaced.
        ResourceError: The file cannot be written.
    """
    place = f"{option} {path}"
    try:
        if _is_stream(path):
            return
        if path.is_dir():
            raise UsageError("is a folder", place=place, remedy="name a file")
        if path.exists() and not overwrite:
            raise UsageError("already exists", place=place, remedy="name another file, or add `overwrite`")
        target = path.resolve()
        _take_a_file(target.parent)
        if not path.exists():  # the name may be too long or contain characters that the file system rejects
            target.touch(exist_ok=False)
            target.unlink()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL byte in the name, a link to itself
        raise _unwritable(place, error, "name another file") from None


def check_folder(folder: Path, *, option: str) -> None:
    """Check, before any work, that a folder is writable; create it if it is missing.

    Args:
        folder: The folder that the user named.
        option: The option that names it.

    Raises:
        ResourceError: The folder cannot be created or written.
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
    """Whether a path is a pipe, a device or a process's open file. These are written in place."""
    special = path.parts[1:2] in (("dev",), ("proc",))
    return path.exists() and not path.is_dir() and (special or not path.is_file())


def _unwritable(place: str, error: Exception, remedy: str) -> ResourceError:
    reason = getattr(error, "strerror", None) or error
    return ResourceError(f"cannot be written: {reason}", place=place, remedy=remedy)


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file atomically; a mapping gets a `format` key.

    Args:
        path: The file.
        document: Plain values.
    """
    write_whole(path, to_json(versioned(document), indent=2) + "\n")


def to_json(value: Any, *, indent: int | None = None, ascii_only: bool = True, sort_keys: bool = False) -> str:
    """Serialise a value to strict JSON. All JSON that dact writes comes from this function.

    NaN and infinity become null. Dates, times and durations become ISO 8601 strings, decimals strings of their digits,
    and bytes base64. Any other type that JSON lacks becomes its `str`.

    Args:
        value: The value.
        indent: Spaces per level; None for one line.
        ascii_only: Whether to escape characters outside ASCII. Lone surrogates are escaped in any case.
        sort_keys: Whether to sort keys.
    """
    encode = _encoder(indent, ascii_only, sort_keys).encode
    try:
        text = encode(value)
    except ValueError:  # the value holds NaN or infinity
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
    """The value with plain types only, and None in place of NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value if value is None or isinstance(value, str | int) else _finite(_plain(value))


def _plain(value: Any) -> Any:
    """The JSON form of a value whose type JSON lacks."""
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, timedelta) and not hasattr(value, "isoformat"):
        return _duration(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "item"):  # a NumPy scalar
        return value.item()
    return list(value) if isinstance(value, set | frozenset) else str(value)


def _duration(value: timedelta) -> str:
    """ISO 8601, in days and seconds: `P1DT30.5S`."""
    sign, whole = ("-", -value) if value < timedelta() else ("", value)
    fraction = f".{whole.microseconds:06d}".rstrip("0") if whole.microseconds else ""
    return f"{sign}P{whole.days}DT{whole.seconds}{fraction}S"


def versioned(document: Any) -> Any:
    """Add the format version to a mapping; a list is returned unchanged."""
    return {"format": FORMAT, **document} if isinstance(document, dict) else document


def check_format(found: Any, place: str) -> None:
    """Refuse a file whose format version this version of dact cannot read.

    Args:
        found: The format version in the file; None means version 1.
        place: The file.

    Raises:
        ArtefactError: The version is unknown.
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
    """Sync a folder, so that renames in it survive a power cut."""
    if os.name != "posix":  # only POSIX can open a folder
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
    """Write a manifest into a folder, sync the folder, and move it into place; an existing one is replaced.

    Args:
        fresh: The folder as written, on the same file system.
        final: The path to move it to.
    """
    files = {
        path.relative_to(fresh).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in files_below(fresh)
    }
    write_json(fresh / MANIFEST, {"files": files})
    put(fresh, final)


def put(fresh: Path, final: Path) -> None:
    """Sync a folder and move it into place; an existing one is replaced.

    Args:
        fresh: The folder as written, on the same file system.
        final: The path to move it to.
    """
    for path in files_below(fresh):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if final.exists():
        shutil.rmtree(final)
    fresh.rename(final)
    sync_folder(final.parent)


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def read_document(path: Path) -> dict[str, Any]:
    """Read a JSON object for display only; empty if the file is missing or damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def faults(folder: Path) -> dict[str, str]:
    """Compare a sealed folder with its manifest.

    Args:
        folder: A folder that `commit` sealed.

    Returns:
        `is missing` or `is damaged` for each such file; empty if all files are unchanged.
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
