"""Workers of a Ray cluster for `--engine ray`: each answers a block at a time with what it has loaded once.

Ray schedules the blocks, restarts workers that die, and gives their blocks to others.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dactcli.api.common import AnyRun, check_numbers, locate
from dactcli.errors import ArtefactError, DactError, ResourceError, UsageError, did_you_mean, first_line

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Cluster:
    """Where the workers are, and how many.

    Attributes:
        address: Of the Ray cluster. Default: one on this machine, for the time of the work.
        workers: Processes, each with a model. Default: one for each processor (or GPU) of the cluster.
        gpus_per_worker: GPUs of each of them; less than 1 shares one.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float = 0

    @classmethod
    def of(cls, request: Any) -> Cluster | None:
        """The cluster that a request names; None for the local engine."""
        if request.engine == "local":
            return None
        return cls(request.address, request.workers, request.gpus_per_worker)


def driver_device(request: Any) -> str:
    """Where the process that hands out the work opens the model: with workers on the processor, since they run it."""
    return "cpu" if request.engine == "ray" else str(request.device)


def worker_device(gpus: float) -> str:
    """Where a worker with so many GPUs runs; one without a GPU of its own may still see one."""
    return "cuda" if gpus else "cpu"


def check_engine(request: Any, *further: str) -> None:
    """Refuse fields of a request that contradict each other about the engine.

    Args:
        request: Has `engine` and the fields of `Cluster`, with its defaults.
        *further: Names of other fields that only `engine` ray reads.

    Raises:
        UsageError: The engine is unknown, or a field is for the other engine or too low.
    """
    if request.engine not in ENGINES:
        remedy = did_you_mean(request.engine, ENGINES)
        raise UsageError(f"{request.engine!r} is unknown", place="`engine`", remedy=remedy)
    check_numbers(request, workers=1, gpus_per_worker=0.0)
    if request.engine == "ray" and request.device != "auto":
        remedy = "leave it out; `gpus_per_worker` gives workers GPUs"
        raise UsageError("is not for `engine` ray", place=f"`device` {request.device}", remedy=remedy)
    for name in ("address", "workers", "gpus_per_worker", *further) if request.engine == "local" else ():
        if getattr(request, name) != getattr(type(request), name):
            raise UsageError("is for `engine` ray", place=f"`{name}`", remedy="add `engine` ray, or leave it out")


def check_ray() -> None:
    """Refuse to go on where Ray cannot work.

    Raises:
        UsageError: torchrun has started several processes.
        ResourceError: Ray is not installed.
    """
    from importlib.util import find_spec

    from dactcli import distributed

    if find_spec("ray") is None or find_spec("ray.data") is None:
        fault = "requires Ray, which is not installed"
        raise ResourceError(fault, place="`engine` ray", remedy="pip install dactcli[ray]")
    if distributed.launched():
        fault = "starts its own processes, and torchrun has started several"
        raise UsageError(fault, place="`engine` ray", remedy="leave torchrun out")


def worker_place(run: AnyRun) -> str:
    """The folder of a run, which every worker opens for itself."""
    found = locate(run, exports=True)
    return os.path.abspath(found if isinstance(found, Path) else found.folder)


class BlockWorker(ABC):
    """What a worker process holds, and how it answers a block."""

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Answer a block.

        Args:
            item: The block, as the driver packed it.

        Returns:
            What `answer` found; or an `error`, which ends the work.
        """
        try:
            return {"found": self.answer(item), "error": ""}
        except DactError as error:
            fault = {"kind": type(error).__name__, "fault": error.fault, "place": error.place, "remedy": error.remedy}
            return {"found": b"", "error": json.dumps(fault)}

    @abstractmethod
    def answer(self, item: dict[str, Any]) -> bytes:
        """What is found for a block, packed for the way back."""


@dataclass(frozen=True)
class SharedModel:
    """The model that the driver and every worker open for themselves.

    Attributes:
        place: The folder of the run or export.
        digest: Digest of the driver's model.
        rule: The rule by which the driver's model halts; empty where all layers run.
    """

    place: str
    digest: str
    rule: str = ""

    def check(self, digest: str, rule: str = "") -> None:
        """Refuse a worker's model or rule that is not the driver's.

        Raises:
            ArtefactError: They differ.
        """
        remedy = "let every worker read the same run under this name"
        if digest != self.digest:
            raise ArtefactError("is another model where a worker runs", place=self.place, remedy=remedy)
        if rule != self.rule:
            fault = f"halts by {rule} where a worker runs, and by {self.rule} here"
            raise ArtefactError(fault, place=self.place, remedy=remedy)


@dataclass(frozen=True)
class Pool:
    """A connection to a cluster.

    Attributes:
        workers: How many may work at a time.
        gpus: GPUs of each.
    """

    workers: int
    gpus: float

    def answers(
        self, worker: type[BlockWorker], arguments: dict[str, Any], items: Sequence[dict[str, Any]]
    ) -> Iterator[bytes]:
        """What the workers find, block by block, in no order.

        Args:
            worker: What each process holds.
            arguments: Of its constructor.
            items: The blocks.

        Raises:
            DactError: A worker's own error.
            ResourceError: Ray itself fails.
        """
        import ray.data

        dataset = ray.data.from_items(list(items), override_num_blocks=len(items)).map(
            worker,
            fn_constructor_kwargs=arguments,
            compute=ray.data.ActorPoolStrategy(size=min(self.workers, len(items))),
            num_cpus=1,
            num_gpus=self.gpus,
        )
        for row in _rows(dataset):
            if row["error"]:
                raise _error(json.loads(row["error"]))
            yield row["found"]


@contextmanager
def connected(cluster: Cluster) -> Iterator[Pool]:
    """A connection to a cluster, or a cluster on this machine for the time of the work; Ray says nothing of its own.

    Args:
        cluster: Where it is.

    Raises:
        ResourceError: It cannot be reached.
    """
    with _quiet(), _ray(cluster) as workers:
        yield Pool(workers, cluster.gpus_per_worker)


def _rows(dataset: Any) -> Iterator[dict[str, Any]]:
    """What the workers say of each block; a failure of Ray itself as one sentence."""
    from ray.exceptions import RayError

    try:
        yield from dataset.iter_rows()
    except RayError as error:
        raise ResourceError(
            f"a worker cannot go on: {first_line(error)}",
            place="`engine` ray",
            remedy="see Ray's logs, and run the same again",
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
def _ray(cluster: Cluster) -> Iterator[int]:
    """A connection to a cluster, or a cluster on this machine for the time of the work; the number of workers.

    Raises:
        ResourceError: The cluster cannot be reached.
    """
    import ray
    import ray.data

    own = not ray.is_initialized()
    workers = cluster.workers
    if own:
        here = cluster.address is None  # or Ray would join a cluster that it finds
        local = {"num_cpus": workers or os.cpu_count(), "include_dashboard": False} if here else {}
        ours = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=cluster.address or "local", logging_level=logging.ERROR, log_to_driver=False, **local)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ResourceError(
                f"cannot be reached: {first_line(error)}", place=f"`address` {cluster.address}", remedy="check it"
            ) from None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)  # Ray has put its own there, which ends the process with 15
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield workers or max(int(ray.cluster_resources().get("GPU" if cluster.gpus_per_worker else "CPU", 1)), 1)
    finally:
        if own:
            ray.shutdown()


def _error(told: dict[str, Any]) -> DactError:
    """The error of a worker, as the local engine raises it."""
    from dactcli import errors

    kind: type[DactError] = getattr(errors, told["kind"], DactError)
    return kind(told["fault"], place=told["place"], remedy=told["remedy"])
