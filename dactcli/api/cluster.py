"""`dact predict --engine ray`: blocks of the inputs are answered by workers of a Ray cluster.

A worker loads the run once and answers a block with the code of the local engine, into a file of its own that appears
in one move. So a block that runs twice leaves one file, and what is interrupted goes on with the blocks that are
missing.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.api.answering import TextModel, text_model
from dactcli.api.common import AnyRun
from dactcli.api.workers import BlockWorker, Cluster, SharedModel, check_ray, connected, worker_device, worker_place
from dactcli.errors import DactError, StoppedError, UsageError
from dactcli.listening import Listener

if TYPE_CHECKING:
    from dactcli.api.predict import PredictFilesRequest
    from dactcli.data.inputs import Input
    from dactcli.prediction.folder import AnswerFolder
    from dactcli.results import PredictedFile


def predict_on_ray(
    inputs: list[Input], request: PredictFilesRequest, *, run: AnyRun, listener: Listener
) -> PredictedFile:
    """Answer files on a Ray cluster; `predict_files` with `engine` ray.

    Args:
        inputs: The files.
        request: How to answer them, and the folder that the predictions go to.
        run: A run folder, saved model or export, as every worker finds it.
        listener: Hears notices and progress.

    Raises:
        UsageError: An input or output does not fit the request, or the model cannot serve the rule.
        DataError: An input cannot be read, or a row has no text.
        ArtefactError: The run is missing or damaged, or an answer is not finite.
        ResourceError: Ray is not installed or not there, or the folder cannot be written.
        StoppedError: SIGINT or SIGTERM came; finished blocks are kept.
    """
    from dactcli.data.blocks import cut_into_blocks
    from dactcli.prediction.folder import AnswerFolder
    from dactcli.prediction.forms import told
    from dactcli.prediction.signals import stoppable
    from dactcli.results import PredictedFile

    _check(inputs)
    inputs = [one if one.remote else replace(one, name=os.path.abspath(one.name)) for one in inputs]
    folder = AnswerFolder.of(str(request.output), inputs)
    folder.refuse(inputs)
    place = worker_place(run)
    model = text_model(place, _local(request, "cpu"), listener)
    request.answers.check(regression=model.regression)
    blocks = cut_into_blocks(inputs, request.block_rows)
    names = _names(inputs, model, request)
    facts = {
        "rule": model.rule,
        "model": model.digest(),
        "columns": [request.text or model.text, request.pair_column or model.pair],
        "on_error": request.on_error,
        "answer columns": request.answers.fact,
        "batch tokens": request.batch_tokens,
        "block rows": request.block_rows,
        "inputs": [[one.name, one.digest()] for one in inputs],
    }
    done = folder.begin(facts, resume=request.resume, overwrite=request.overwrite)
    if request.resume and folder.complete() is not None:
        return PredictedFile(str(request.output), None, None, already_complete=True)
    if text := told(names):
        listener.notice(text)
    waiting = [number for number in range(len(blocks)) if folder.part(number) not in done]
    if done:
        listener.notice(f"{len(blocks) - len(waiting):,} of {len(blocks):,} blocks are answered already")
    with stoppable(lambda number, name: _stopped(number, name, folder)):
        left = {number: blocks[number] for number in waiting}
        shared = SharedModel(place, str(facts["model"]), model.rule)
        written, skipped = _answer(left, request, shared, folder, names, listener)
    for name in sorted(done):
        there, without = folder.count(name, names[request.answers.names[0]])
        written, skipped = written + there, skipped + without
    folder.finish({**facts, "predictions": written, "skipped": skipped, "blocks": len(blocks)})
    return PredictedFile(str(request.output), model.rule, written, skipped)


def _check(inputs: list[Input]) -> None:
    """Refuse what Ray cannot do.

    Raises:
        UsageError: torchrun has started several processes, or an input is a pipe.
        ResourceError: Ray is not installed.
    """
    check_ray()
    if any(one.pipe for one in inputs):
        raise UsageError("reads files and addresses", place="`engine` ray", remedy="save the stream to a file first")


def _local(request: PredictFilesRequest, device: str) -> PredictFilesRequest:
    """The request of one process on a device."""
    rows = type(request).block_rows
    return replace(
        request, engine="local", address=None, workers=None, gpus_per_worker=0, block_rows=rows, device=device
    )


def _stopped(number: int, name: str, folder: AnswerFolder) -> StoppedError:
    remedy = "the same command with `resume` answers the blocks that are missing"
    return StoppedError(number, f"stopped by {name}", place=folder.name, remedy=remedy)


def _names(inputs: list[Input], model: TextModel, request: PredictFilesRequest) -> dict[str, str]:
    """What the answers' columns are called in all files, by the columns that the first rows of each input have.

    Raises:
        DataError: They lack the column of the text, or hold no text there.
    """
    from dactcli.api.predict import Work
    from dactcli.data.rows import Rows
    from dactcli.prediction.forms import free_names
    from dactcli.prediction.windows import columns_of

    found: dict[str, None] = {}
    for one in inputs:
        rows = Rows([one])
        found |= dict.fromkeys(columns_of(rows, Work(model, rows, request, Listener()).columns))
    return free_names(found, request.answers.names, error=request.skips)


def _answer(
    blocks: dict[int, Input],
    request: PredictFilesRequest,
    model: SharedModel,
    folder: AnswerFolder,
    names: dict[str, str],
    listener: Listener,
) -> tuple[int, int]:
    """Let workers answer blocks; how many predictions they wrote, and how many rows have none."""
    written = skipped = 0
    if not blocks:
        return written, skipped
    items = [{"number": number, "block": _packed(block)} for number, block in blocks.items()]
    arguments = {"shared": model, "request": request, "folder": folder, "names": names}
    cluster = Cluster(request.address, request.workers, request.gpus_per_worker)
    with connected(cluster) as pool, listener.streaming(f"predicting {len(blocks):,} blocks", 0) as progress:
        for found in pool.answers(AnswersWorker, arguments, items):
            counts = json.loads(found)
            written, skipped = written + counts["predictions"], skipped + counts["skipped"]
            progress(written, 0, None)
    return written, skipped


class AnswersWorker(BlockWorker):
    """Answers blocks of files, with a model that it loads once.

    Args:
        shared: The run or export.
        request: How to answer.
        folder: Where the predictions go.
        names: What the answers' columns are called, by their own names.
    """

    def __init__(
        self, shared: SharedModel, request: PredictFilesRequest, folder: AnswerFolder, names: dict[str, str]
    ) -> None:
        from dactcli.api.common import quieten_libraries

        quieten_libraries()
        self.shared, self.folder, self.names = shared, folder, names
        self.request = _local(request, worker_device(request.gpus_per_worker))

    @cached_property
    def model(self) -> TextModel:
        """The model; opened with the first block, so that an error of it comes back as its own sentence."""
        opened = text_model(self.shared.place, self.request, Listener())
        self.shared.check(opened.digest(), opened.rule)
        return opened

    def answer(self, item: dict[str, Any]) -> bytes:
        """Answer a block into its file.

        Args:
            item: `number` and `block`, as the driver packed it.

        Returns:
            How many predictions the file holds and how many rows have none, as JSON.
        """
        from dactcli.data.blocks import placed

        block = _unpacked(item["block"])
        try:
            written, skipped = self._answer(block, self.folder.part(item["number"]))
        except DactError as error:
            raise placed(error, block) from None
        return json.dumps({"predictions": written, "skipped": skipped}).encode()

    def _answer(self, block: Input, name: str) -> tuple[int, int]:
        if self.folder.local is not None:
            return self._write(block, self.folder.local / name)
        with tempfile.TemporaryDirectory() as temporary:
            counts = self._write(block, Path(temporary) / name)
            self.folder.take(Path(temporary) / name)
            return counts

    def _write(self, block: Input, path: Path) -> tuple[int, int]:
        """Answer with the code of the local engine; what another worker left of the file is begun again."""
        from dactcli.api.predict import Work
        from dactcli.data.rows import Rows
        from dactcli.prediction.output import Output

        request = replace(self.request, output=path, resume=False, overwrite=True)
        output = Output(
            path,
            [block],
            skips=request.skips,
            answers=request.answers,
            notice=lambda text: None,
            names=self.names,
        )
        output.check(resume=False, overwrite=True)
        with output:
            work = Work(self.model, Rows([block]), request, Listener())
            return work.write(output), work.skipped


def _packed(block: Input) -> str:
    """A block as text, because Ray Data carries tables."""
    values = asdict(block)
    if block.span is not None:
        values["span"]["header"] = block.span.header.hex()
    return json.dumps(values)


def _unpacked(text: str) -> Input:
    """A block from what `_packed` made of it."""
    from dactcli.data.inputs import Input, Span

    values = json.loads(text)
    span = values["span"]
    if span is not None:
        header, groups = bytes.fromhex(span["header"]), tuple(span["groups"])
        values["span"] = Span(**{**span, "header": header, "groups": groups})
    return Input(**values)
