"""`dact predict --engine ray`: blocks of the inputs are answered by workers of a Ray cluster.

Ray schedules the blocks, restarts workers that die, and gives their blocks to others. A worker loads the run once and
answers a block with the code of the local engine, into a file of its own that appears in one move. So a block that runs
twice leaves one file, and what is interrupted goes on with the blocks that are missing.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.api.answering import TextModel, text_model
from dactcli.api.common import AnyRun, locate
from dactcli.errors import DactError, ResourceError, StoppedError, UsageError, first_line
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
    place = _place(run)
    model = text_model(place, request, listener)
    request.answers.check(regression=model.regression)
    blocks = cut_into_blocks(inputs, request.block_rows)
    names = _names(inputs, model, request)
    facts = {
        "rule": model.rule,
        "model": model.digest(),
        "columns": [request.text or model.text, request.pair_column or model.pair],
        "on_error": request.on_error,
        "answer columns": request.answers.fact,
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
        written, skipped = _answer(
            {number: blocks[number] for number in waiting}, request, place, folder, names, listener
        )
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
    from dactcli import distributed

    check_ray()
    if distributed.launched():
        fault = "starts its own processes, and torchrun has started several"
        raise UsageError(fault, place="`engine` ray", remedy="leave torchrun out")
    if any(one.pipe for one in inputs):
        raise UsageError("reads files and addresses", place="`engine` ray", remedy="save the stream to a file first")


def check_ray() -> None:
    """Refuse to go on without Ray.

    Raises:
        ResourceError: It is not installed.
    """
    from importlib.util import find_spec

    if find_spec("ray") is None or find_spec("ray.data") is None:
        fault = "requires Ray, which is not installed"
        raise ResourceError(fault, place="`engine` ray", remedy="pip install dactcli[ray]")


def _place(run: AnyRun) -> str:
    """The folder of a run, which every worker opens for itself."""
    found = locate(run, exports=True)
    return os.path.abspath(found if isinstance(found, Path) else found.folder)


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
    run: str,
    folder: AnswerFolder,
    names: dict[str, str],
    listener: Listener,
) -> tuple[int, int]:
    """Let workers answer blocks; how many predictions they wrote, and how many rows have none."""
    written = skipped = 0
    if not blocks:
        return written, skipped
    items = [{"number": number, "block": _packed(block)} for number, block in blocks.items()]
    with _quiet(), _ray(request) as workers, listener.streaming(f"predicting {len(blocks):,} blocks", 0) as progress:
        import ray.data

        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(
            BlockWorker,
            fn_constructor_kwargs={"run": run, "request": request, "folder": folder, "names": names},
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(items))),
            num_cpus=1,
            num_gpus=request.gpus_per_worker,
        )
        for row in _rows(dataset):
            if row["error"]:
                raise _error(json.loads(row["error"]))
            written, skipped = written + row["predictions"], skipped + row["skipped"]
            progress(written, 0, None)
    return written, skipped


def _rows(dataset: Any) -> Iterator[dict[str, Any]]:
    """What the workers say of each block; a failure of Ray itself as one sentence."""
    from ray.exceptions import RayError

    try:
        yield from dataset.iter_rows()
    except RayError as error:
        raise ResourceError(
            f"a worker cannot go on: {first_line(error)}",
            place="`engine` ray",
            remedy="see Ray's logs; `resume` answers the blocks that are missing",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Ray's own processes and libraries write off the screen; Ray has it in its logs.

    Some write to the descriptor of standard error, past Python. What dact writes there goes on to where it went.
    """
    before, kept = sys.stderr, os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        own = before.fileno() == 2
    except (OSError, ValueError):  # it is caught in memory
        own = False
    with (
        os.fdopen(kept, "w", buffering=1, encoding="utf-8") as screen,
        Path(os.devnull).open("w", encoding="utf-8") as nothing,
        redirect_stdout(nothing),  # a thread of Ray prints what happens to workers
    ):
        os.dup2(nowhere, 2)
        if own:
            sys.stderr = screen
        try:
            yield
        finally:
            sys.stderr = before
            os.dup2(kept, 2)
            os.close(nowhere)


@contextmanager
def _ray(request: PredictFilesRequest) -> Iterator[int]:
    """A connection to a cluster, or a cluster on this machine for the time of the work; the number of workers.

    Raises:
        ResourceError: The cluster cannot be reached.
    """
    import ray
    import ray.data

    own = not ray.is_initialized()
    workers = request.workers
    if own:
        here = request.address is None  # or Ray would join a cluster that it finds
        local = {"num_cpus": workers or os.cpu_count(), "include_dashboard": False} if here else {}
        ours = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=request.address or "local", logging_level=logging.ERROR, log_to_driver=False, **local)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ResourceError(
                f"cannot be reached: {first_line(error)}", place=f"`address` {request.address}", remedy="check it"
            ) from None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)  # Ray has put its own there, which ends the process with 15
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield workers or max(int(ray.cluster_resources().get("GPU" if request.gpus_per_worker else "CPU", 1)), 1)
    finally:
        if own:
            ray.shutdown()


class BlockWorker:
    """Answers blocks in a process of its own, with a model that it loads once.

    Args:
        run: The folder of the run or export.
        request: How to answer.
        folder: Where the predictions go.
        names: What the answers' columns are called, by their own names.
    """

    def __init__(self, run: str, request: PredictFilesRequest, folder: AnswerFolder, names: dict[str, str]) -> None:
        from dactcli.api.common import quieten_libraries

        quieten_libraries()
        self.request, self.folder, self.names = request, folder, names
        self.model = text_model(run, request, Listener())

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Answer a block into its file.

        Args:
            item: `number` and `block`, as the driver packed it.

        Returns:
            How many predictions the file holds and how many rows have none; or an `error`, which ends the work.
        """
        from dactcli.data.blocks import placed

        block = _unpacked(item["block"])
        try:
            written, skipped = self._answer(block, self.folder.part(item["number"]))
        except DactError as error:
            told = placed(error, block)
            fault = {"kind": type(told).__name__, "fault": told.fault, "place": told.place, "remedy": told.remedy}
            return {"predictions": 0, "skipped": 0, "error": json.dumps(fault)}
        return {"predictions": written, "skipped": skipped, "error": ""}

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


def _error(told: dict[str, Any]) -> DactError:
    """The error of a worker, as the local engine raises it."""
    from dactcli import errors

    kind: type[DactError] = getattr(errors, told["kind"], DactError)
    return kind(told["fault"], place=told["place"], remedy=told["remedy"])
