"""A folder of predictions: a file for each block of the inputs, and a note of what they were made of.

A file that bears its name is complete. What is interrupted goes on with the blocks whose files are missing, whoever
answered the others. The folder may be local or an address that fsspec can write (s3://, gs://, hf://).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dactcli.data.inputs import Input, is_address
from dactcli.errors import DactError, ResourceError, UsageError, first_line
from dactcli.storage import FORMAT, to_json, write_whole

NOTE = "predictions.json"
PART = re.compile(r"part-\d{6}\.(parquet|jsonl)")
TYPED = ("parquet", "csv", "tsv", "txt")  # kinds of inputs whose blocks all have the same columns and types


@dataclass(frozen=True)
class AnswerFolder:
    """Where the predictions of all blocks go.

    Attributes:
        name: A folder or an address.
        ending: Of its files: parquet, or jsonl where the columns of JSON may differ from block to block.
    """

    name: str
    ending: str

    @classmethod
    def of(cls, name: str, inputs: Sequence[Input]) -> AnswerFolder:
        """The folder for the predictions of some inputs."""
        whole = name.rstrip("/") if is_address(name) else os.path.abspath(name)
        return cls(whole, "parquet" if all(one.kind in TYPED for one in inputs) else "jsonl")

    @property
    def local(self) -> Path | None:
        """Its path; None for an address."""
        return None if is_address(self.name) else Path(self.name)

    def refuse(self, inputs: Sequence[Input]) -> None:
        """Refuse inputs that lie in this folder, where beginning anew would delete them.

        Raises:
            UsageError: One does.
        """
        for one in inputs:
            if one.name.startswith(f"{self.name}/"):
                fault = f"holds the input {one.name}"
                raise UsageError(fault, place=f"`output` {self.name}", remedy="name another folder")

    def part(self, number: int) -> str:
        """The name of a block's file."""
        return f"part-{number:06d}.{self.ending}"

    def begin(self, facts: dict[str, Any], *, resume: bool, overwrite: bool) -> set[str]:
        """Make ready, and tell which files are complete already.

        Args:
            facts: What the predictions are made of; a resumed folder must be made of the same.
            resume: Whether to go on with what an earlier call wrote.
            overwrite: Whether to begin again where there is something.

        Raises:
            UsageError: Something is there and neither was asked for, or it was made of something else.
            ResourceError: The folder cannot be made or written.
        """
        try:
            return self._begin(facts, resume=resume, overwrite=overwrite)
        except DactError:
            raise
        except Exception as error:  # a remote store may raise anything
            raise self._unwritable(error) from error

    def _begin(self, facts: dict[str, Any], *, resume: bool, overwrite: bool) -> set[str]:
        place, there = f"`output` {self.name}", self._names()
        done = {name for name in there if PART.fullmatch(name)}
        before = self._read() if NOTE in there else None
        if there and before is None:
            raise UsageError("is not a folder of predictions", place=place, remedy="name another folder")
        if before is not None and not (resume or overwrite):
            remedy = "add `resume` to answer what is missing, or `overwrite` to begin again"
            raise UsageError("holds predictions", place=place, remedy=remedy)
        if before is not None and resume:
            changed = [name for name, value in facts.items() if before.get(name) != value]
            if changed or before.get("format") != FORMAT:
                what = f"different {' and '.join(changed)}" if changed else "another version of dact"
                remedy = "add `overwrite` instead of `resume` to begin again"
                raise UsageError(f"was begun with {what}", place=place, remedy=remedy)
            return done
        self._write({"complete": False})  # no resume takes what is left of the earlier ones for these
        for name in done:
            self._remove(name)
        self._write({**facts, "complete": False})
        return set()

    def finish(self, facts: dict[str, Any]) -> None:
        """Note that all blocks are answered, and remove what killed workers left.

        Args:
            facts: As `begin` had them, with the numbers of predictions and of rows without one.
        """
        try:
            self._write({**facts, "complete": True})
            if self.local is not None:
                for left in [*self.local.glob("part-*.part*"), *self.local.glob(".part-*.form")]:
                    left.unlink(missing_ok=True)
        except Exception as error:  # as in `begin`
            raise self._unwritable(error) from error

    def take(self, file: Path) -> None:
        """Put a finished file into a folder that is an address, in one move.

        Args:
            file: A local file with the name of its block.
        """
        store, root = self._store()
        store.put_file(str(file), f"{root}/{file.name}")

    def count(self, name: str, column: str) -> tuple[int, int]:
        """How many predictions a file holds, and how many of them are rows without an answer.

        Args:
            name: Of the file.
            column: A column that every answer fills.
        """
        import fsspec

        with fsspec.open(f"{self.name}/{name}", "rb") as file:
            if self.ending == "parquet":
                import pyarrow.parquet

                found = pyarrow.parquet.ParquetFile(file)
                exits = found.read([column])[column]
                return len(exits), exits.null_count
            rows = [json.loads(line) for line in file]
        return len(rows), sum(row[column] is None for row in rows)

    def complete(self) -> dict[str, Any] | None:
        """What an earlier call noted when it was done; None where it was not."""
        note = self._read()
        return note if note is not None and note.get("complete") else None

    def _names(self) -> set[str]:
        if self.local is not None:
            if self.local.exists() and not self.local.is_dir():
                raise UsageError("is a file", place=f"`output` {self.name}", remedy="name a folder")
            return {path.name for path in self.local.iterdir()} if self.local.is_dir() else set()
        store, root = self._store()
        return {str(name).rpartition("/")[2] for name in store.ls(root, detail=False)} if store.exists(root) else set()

    def _read(self) -> dict[str, Any] | None:
        try:
            if self.local is not None:
                text = (self.local / NOTE).read_text(encoding="utf-8")
            else:
                store, root = self._store()
                text = store.cat_file(f"{root}/{NOTE}").decode()
            found = json.loads(text)
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _write(self, note: dict[str, Any]) -> None:
        text = to_json({"format": FORMAT, **note}, indent=2)
        if self.local is not None:
            self.local.mkdir(parents=True, exist_ok=True)
            write_whole(self.local / NOTE, text)
        else:
            store, root = self._store()
            store.makedirs(root, exist_ok=True)
            store.pipe_file(f"{root}/{NOTE}", text.encode())

    def _remove(self, name: str) -> None:
        if self.local is not None:
            (self.local / name).unlink()
        else:
            store, root = self._store()
            store.rm_file(f"{root}/{name}")

    def _store(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        store, root = url_to_fs(self.name)
        return store, str(root)

    def _unwritable(self, error: Exception) -> ResourceError:
        remedy = "name another folder, or install what is missing"
        return ResourceError(f"cannot be written: {first_line(error)}", place=self.name, remedy=remedy)
