"""From the names of inputs to their bytes: files, globs, remote addresses, pipes and standard input.

Compressed files (gzip and Zstandard) are known by their first bytes, remote addresses (`s3://`, `https://`, `hf://`,
`memory://`) go through fsspec. Nothing here looks at rows: `dactcli.data.formats` does.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from dactcli.errors import DactError, DataError, did_you_mean, first_line, listed
from dactcli.storage import sha256

KINDS = ("csv", "tsv", "jsonl", "json", "parquet", "txt")
LABELLED = KINDS[:-1]  # plain lines have no column for a label
STDIN = "-"
WEB = ("http://", "https://")
PACKINGS = {"gz": "gzip", "zst": "zstd"}  # by extension, as pyarrow names them
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
GLOB = re.compile(r"[*?\[]")
ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)
FOLDER_OF_DATASETS = ("dataset_info.json", "dataset_dict.json", "state.json")


@dataclass(frozen=True)
class Span:
    """A part of an input that can be read without the rest.

    Attributes:
        start: First byte, of text.
        stop: The byte after its last.
        header: What stands before the records of every part, such as the names of csv.
        before: Lines (of parquet: rows) of the whole before its first record, those of the header left out.
        groups: Its row groups, of parquet.
    """

    start: int = 0
    stop: int = 0
    header: bytes = b""
    before: int = 0
    groups: tuple[int, ...] = ()

    def read(self, file: BinaryIO) -> BinaryIO:
        """The bytes of the part, of text."""
        file.seek(self.start)
        return io.BytesIO(self.header + file.read(self.stop - self.start))


@dataclass(frozen=True)
class Input:
    """One source of rows.

    Attributes:
        name: The file, address or `-`, for errors.
        kind: One of KINDS.
        pipe: Whether it can be read only once, from front to back.
        guessed: Whether nothing but its being a pipe says that it holds plain lines.
        size: Bytes as they lie there, compressed or not; None where nobody knows.
        span: The part that is read; None for all of it.
    """

    name: str
    kind: str
    pipe: bool = False
    guessed: bool = False
    size: int | None = None
    span: Span | None = None

    @property
    def remote(self) -> bool:
        """Whether fsspec reads it."""
        return is_address(self.name)

    def digest(self) -> str | None:
        """What tells its contents from others: SHA-256, or what a remote store says; None for a pipe or a part.

        Raises:
            DataError: It cannot be read.
        """
        if self.pipe or self.span is not None:
            return None
        if self.remote:
            with _reading(self.name):
                store, path = _store(self.name)
                if not self.name.startswith(WEB):
                    return str(store.ukey(path))
                with store.open(path, "rb") as file:  # a page may change and keep its address
                    digest = hashlib.sha256()
                    while block := file.read(1 << 20):
                        digest.update(block)
                return digest.hexdigest()
        with _reading(self.name):
            return sha256(Path(self.name))

    @contextmanager
    def open(self, standard_input: BinaryIO | None = None) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """Its bytes.

        Args:
            standard_input: What `-` reads.

        Yields:
            The bytes, unpacked where they are compressed, and the file as it lies there, whose position tells how
            far reading has come.

        Raises:
            DataError: It cannot be read.
        """
        with _reading(self.name):
            if self.name == STDIN and standard_input is not None:
                yield _unpacked(standard_input, self), standard_input
            elif self.remote:
                store, path = _store(self.name)
                with store.open(path, "rb") as file:
                    yield self._part_of(file), file
            else:
                with Path(self.name).open("rb") as file:
                    yield self._part_of(file), file

    def _part_of(self, file: BinaryIO) -> BinaryIO:
        if self.span is None or self.kind == "parquet":
            return _unpacked(file, self)
        return self.span.read(file)


def find_inputs(names: Sequence[str], kind: str | None = None, kinds: Collection[str] = KINDS) -> list[Input]:
    """The inputs that names stand for; a glob stands for all files that it matches, in order.

    Args:
        names: Files, globs, addresses, pipes such as /dev/fd/63, or `-` for standard input.
        kind: One of KINDS for all of them; None takes each extension, and plain lines for pipes.
        kinds: What may be read.

    Raises:
        DataError: There is no such file, or its kind is not known.
    """
    if len(names) > 1 and STDIN in names:
        raise DataError("cannot be combined with other inputs", place=STDIN, remedy="read standard input alone")
    return [one for name in names for one in _inputs(_restored(name), kind, kinds)]


def is_address(name: str) -> bool:
    """Whether a name is a remote address such as `s3://bucket/rows.csv`, and no path."""
    return "://" in name and not os.path.exists(name)


def _restored(name: str) -> str:
    """An address whose slashes a path took away: `s3:/bucket` is `s3://bucket`."""
    match = ADDRESS.fullmatch(name)
    if match is None or os.path.exists(name):
        return name
    return f"{match[1]}://{'/' if match[1] == 'file' else ''}{match[2]}"


def _inputs(name: str, kind: str | None, kinds: Collection[str]) -> Iterator[Input]:
    if name == STDIN:
        yield _pipe(name, kind, kinds)
    elif is_address(name):
        yield from _remote_inputs(name, kind, kinds)
    elif GLOB.search(name) and not os.path.exists(name):
        found = sorted(path for path in glob.glob(name, recursive=True) if Path(path).is_file())
        if not found:
            raise DataError("no file matches", place=name, remedy=_near_files(Path(name), kinds))
        yield from (_local(path, kind, kinds) for path in found)
    else:
        yield _local(name, kind, kinds)


def _local(name: str, kind: str | None, kinds: Collection[str]) -> Input:
    path = Path(name)
    with _reading(name):
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            remedy = _near_files(path, kinds)
            raise DataError("there is no such file", place=name, remedy=remedy) from None
        if stat.S_ISDIR(mode):
            raise _folder_error(path, kinds)
        if not stat.S_ISREG(mode):
            return _pipe(name, kind, kinds)
        return Input(name, _kind(name, path.name, kind, kinds), size=path.stat().st_size)


def _remote_inputs(name: str, kind: str | None, kinds: Collection[str]) -> Iterator[Input]:
    web = name.startswith(WEB)
    with _reading(name):
        store, path = _store(name)
        paths = [path]
        if not web and GLOB.search(path):
            paths = sorted(store.glob(path))
            if not paths:
                raise DataError("no file matches", place=name, remedy="check the address")
        elif not store.exists(path):
            raise DataError("there is no such file", place=name, remedy="check the address")
        elif store.isdir(path):
            raise DataError("is a folder", place=name, remedy=f"name its files: {name.rstrip('/')}/*.jsonl")
        for one in paths:
            whole = name if one == path else str(store.unstrip_protocol(one))
            size = store.info(one).get("size")
            yield Input(whole, _kind(whole, urlsplit(whole).path, kind, kinds), size=size)


def _store(name: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    store, path = url_to_fs(name)
    return store, str(path)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Every way in which reading can fail, as one sentence; a remote store may raise anything."""
    try:
        yield
    except (DactError, GeneratorExit):
        raise
    except OSError as error:
        raise read_error(name, error) from error
    except Exception as error:
        if not is_address(name):
            raise
        reason = first_line(error)
        fault = f"cannot be read ({reason})"
        remedy = "install what is missing, or copy the file here" if isinstance(error, ImportError) else None
        raise DataError(fault, place=name, remedy=remedy or "check the address, or copy the file here") from error


def read_error(name: str, error: OSError) -> DataError:
    """The error of an input that the system, or a store, does not let us read."""
    reason = error.strerror or first_line(error)
    return DataError(f"cannot be read: {reason}", place=name)


def _kind(name: str, path: str, kind: str | None, kinds: Collection[str]) -> str:
    if kind is not None:
        return kind
    suffixes = [suffix[1:].lower() for suffix in PurePosixPath(path).suffixes]
    packed = bool(suffixes) and suffixes[-1] in PACKINGS
    extension = (suffixes[:-1] if packed else suffixes)[-1:]
    if extension and extension[0] in kinds:
        return extension[0]
    fault = f"extension .{extension[0]} is unknown" if extension else "the file has no extension"
    remedy = did_you_mean(extension[0] if extension else "", kinds)
    option = "; `format` says what it is" if "txt" in kinds else ""
    raise DataError(fault, place=name, remedy=remedy + option)


def _pipe(name: str, kind: str | None, kinds: Collection[str]) -> Input:
    if kind == "parquet":
        raise DataError("parquet cannot be read from a pipe", place=name, remedy="name the file")
    if kind is None and "txt" not in kinds:
        raise DataError("is a pipe, and nothing says what it holds", place=name, remedy=f"name a {listed(kinds)} file")
    return Input(name, kind or "txt", pipe=True, guessed=kind is None)


def _folder_error(folder: Path, kinds: Collection[str]) -> DataError:
    if any((folder / name).is_file() for name in FOLDER_OF_DATASETS):
        remedy = f"write it as parquet first: datasets.load_from_disk({str(folder)!r}) and .to_parquet(FILE)"
        return DataError("is a folder that datasets' save_to_disk wrote", place=str(folder), remedy=remedy)
    endings = [path.suffix for path in sorted(folder.iterdir()) if path.suffix[1:].lower() in kinds]
    if not endings:
        return DataError("is a folder, and holds no data file", place=str(folder), remedy="name the file itself")
    most = max(endings, key=endings.count)
    return DataError("is a folder", place=str(folder), remedy=f"name the files in it: {folder / f'*{most}'}")


def _near_files(file: Path, kinds: Collection[str]) -> str:
    folder = file.parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist either"
    readable = [path.name for path in folder.iterdir() if path.suffixes and _ending(path.name) in kinds]
    return did_you_mean(file.name, sorted(readable)) if readable else f"the folder holds no {', '.join(kinds)} file"


def _ending(name: str) -> str:
    suffixes = [suffix[1:].lower() for suffix in PurePosixPath(name).suffixes if suffix[1:].lower() not in PACKINGS]
    return suffixes[-1] if suffixes else ""


def _unpacked(file: BinaryIO, source: Input) -> BinaryIO:
    """The file, or what it unpacks to where its first bytes say that it is compressed."""
    if source.kind == "parquet":
        start = file.read(4)
        file.seek(0)
    elif source.pipe:
        start = file.peek(4)[:4] if isinstance(file, io.BufferedReader) else b""
    else:
        start = file.read(4)
        file.seek(0)
    packing = next((packing for magic, packing in MAGIC.items() if start.startswith(magic)), None)
    if packing is None:
        return file
    if source.kind == "parquet":
        raise DataError("is a compressed parquet file", place=source.name, remedy="unpack it: parquet packs for itself")
    import pyarrow

    packed: BinaryIO = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), packing)
    return packed


def pipe_descriptor(file: BinaryIO) -> int | None:
    """The number of the pipe or terminal behind a file, whose next bytes may have to be waited for; else None."""
    try:
        number = file.fileno()
        mode = os.fstat(number).st_mode
    except (OSError, ValueError, AttributeError):
        return None
    waits = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)
    return number if waits and os.name == "posix" else None
