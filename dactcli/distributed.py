"""Share work among the processes that `torchrun` or `accelerate launch` started.

Every process runs the same program on its own part: `share` selects the part, `join` merges the parts, and `on_main`
runs on rank 0 alone what only one process may do (writing, or decisions that depend on a folder). Processes share work
inside `process_group` only. Outside it, and with one process, these calls are no-ops and do not import torch.

Numbers and objects are exchanged over a separate gloo group, whatever backend the training uses (gloo on CPUs, NCCL
on CUDA). torchrun's key-value store records the first failure, because it outlives broken connections.
"""

from __future__ import annotations

import atexit
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dactcli.errors import DactError, ResourceError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

STARTED_BY = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # set by launchers
NUMBERS = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"}
PATIENCE = timedelta(days=7)  # rank 0 may wait long for standard input; the launcher ends all if one dies
GRACE = 2.0  # seconds that rank 0 has to fail as well and report why
# keys of the store: the first exit code; a process claims the report; the report is printed
FAILED, CLAIMED, SAID = "dact/failed", "dact/claimed", "dact/said"
BROKEN = re.compile(r"gloo|nccl|TCPStore|connection (closed|reset)|broken pipe", re.IGNORECASE)


class _Group:
    """State of this process's group.

    Attributes:
        sharing: Whether `process_group` is active.
        store: torchrun's key-value store; None before the first `process_group`.
        gloo: The process group for numbers and objects.
    """

    sharing = False
    store: Any = None
    gloo: Any = None


def check_launch() -> None:
    """Refuse incomplete launcher variables in the environment.

    Raises:
        UsageError: Some variables are missing, are not numbers, or contradict each other.
    """
    fault = _launch_fault()
    if fault is not None:
        raise UsageError(
            fault,
            place="environment",
            remedy=f"start the processes with torchrun or accelerate launch, or unset {', '.join(STARTED_BY)}",
        )


def _launch_fault() -> str | None:
    """The fault in the launcher's variables; None if they are complete or describe a single process."""
    found = {name: os.environ[name] for name in STARTED_BY if name in os.environ}
    numbers = {name: value for name, value in found.items() if name in NUMBERS}
    for name, value in numbers.items():
        if not re.fullmatch(r"[0-9]{1,9}", value) or (name == "WORLD_SIZE" and int(value) < 1):
            return f"{name} is {value!r}, not a number"
    if int(numbers.get("RANK", 0)) >= int(numbers.get("WORLD_SIZE", 1 << 31)):
        return f"RANK is {numbers['RANK']} and WORLD_SIZE {numbers['WORLD_SIZE']}"
    alone = numbers.get("WORLD_SIZE") == "1" and "LOCAL_RANK" not in numbers
    missing = [name for name in STARTED_BY if name not in found]
    begun = {"RANK", "WORLD_SIZE", "LOCAL_RANK"} & set(found)
    if begun and missing and not alone:
        return f"{', '.join(sorted(begun))} {_is(begun)} set and {', '.join(missing)} {_is(missing)} not"
    return None


def _is(names: Collection[str]) -> str:
    return "is" if len(names) == 1 else "are"


def launched() -> bool:
    """Whether this is one of several processes."""
    complete = all(name in os.environ for name in STARTED_BY) and _launch_fault() is None
    return complete and int(os.environ["WORLD_SIZE"]) > 1


def launched_rank() -> int:
    """Rank that the launcher gave this process, inside and outside `process_group`; 0 without a launcher."""
    return int(os.environ["RANK"]) if launched() else 0


def local_rank() -> int:
    """Rank among the processes of this machine."""
    return int(os.environ["LOCAL_RANK"]) if launched() else 0


@contextmanager
def process_group() -> Iterator[None]:
    """Share the work inside this context among all processes; every process must enter it.

    Raises:
        UsageError: The launcher asks for an engine that splits the model, or its variables are incomplete.
    """
    check_launch()
    if _Group.sharing or not launched():
        yield
        return
    _meet()
    _Group.sharing = True
    try:
        yield
    finally:
        _Group.sharing = False


def _meet() -> None:
    """Connect all processes, once."""
    if _Group.gloo is not None:
        return
    # DDP warns when all weights are trained, although find_unused_parameters is needed by other stages
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    import torch
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    store, rank, world = next(rendezvous("env://"))
    _Group.store = store
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true":
            raise UsageError(
                f"accelerate is configured for {name}, but every process of dact holds the whole model",
                place="accelerate launch",
                remedy="use --multi_gpu",
            )
    if not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, store=store, rank=rank, world_size=world)
        atexit.register(_part)
    _Group.gloo = distributed.new_group(backend="gloo", timeout=PATIENCE)


def _part() -> None:
    """Close the connections, unless the group failed: closing broken connections can hang."""
    from torch import distributed

    if distributed.is_initialized() and failure() is None:
        distributed.destroy_process_group()


def rank() -> int:
    """Rank of this process; 0 outside `process_group`."""
    return launched_rank() if _Group.sharing else 0


def world_size() -> int:
    """Number of processes that share work; 1 outside `process_group`."""
    return int(os.environ["WORLD_SIZE"]) if _Group.sharing else 1


def is_main() -> bool:
    """Whether this process is rank 0, which alone writes and prints."""
    return rank() == 0


def share(items: Sequence[T]) -> Sequence[T]:
    """Every `world_size()`-th item, so that parts of a sorted sequence are balanced. A part may be empty."""
    return items[rank() :: world_size()] if world_size() > 1 else items


def join(part: Sequence[T]) -> list[T]:
    """Merge the results of all processes' parts, one result per item, in the order of the whole."""
    parts = gather(list(part))
    whole: list[Any] = [None] * sum(map(len, parts))
    for number, one in enumerate(parts):
        whole[number :: len(parts)] = one
    return whole


def gather(value: T) -> list[T]:
    """The values of all processes, by rank."""
    if world_size() == 1:
        return [value]
    from torch import distributed

    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value, group=_Group.gloo)
    return values


def broadcast(value: T) -> T:
    """Rank 0's value, on every process."""
    if world_size() == 1:
        return value
    from torch import distributed

    values = [value]
    distributed.broadcast_object_list(values, src=0, group=_Group.gloo)
    return values[0]


def all_reduce_max(number: int) -> int:
    """Maximum of a number over processes."""
    if world_size() == 1:
        return number
    import torch
    from torch import distributed

    value = torch.tensor(int(number))
    distributed.all_reduce(value, distributed.ReduceOp.MAX, group=_Group.gloo)
    return int(value)


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum a CPU tensor over processes, in place."""
    if world_size() > 1:
        from torch import distributed

        distributed.all_reduce(tensor, group=_Group.gloo)
    return tensor


def barrier() -> None:
    """Wait until all processes have reached this call."""
    if world_size() > 1:
        from torch import distributed

        distributed.barrier(group=_Group.gloo)


def on_main(work: Callable[[], T]) -> T:
    """Run a function on rank 0; every process gets its result, or raises its error.

    Args:
        work: The function. Its result is sent to the other processes.

    Raises:
        DactError: What `work` raised.
        OSError: What `work` raised.
    """
    if world_size() == 1:
        return work()
    value: T | None = None
    error: Exception | None = None
    if is_main():
        try:
            value = work()
        except (DactError, OSError) as caught:
            error = caught
    value, error = broadcast((value, error))
    if error is not None:
        raise error
    return cast("T", value)


def raise_everywhere(error: DactError | None) -> None:
    """Raise one process's error on all processes.

    Args:
        error: This process's error, if any.
    """
    found = next((one for one in gather(error) if one is not None), None)
    if found is not None:
        raise found


@contextmanager
def failing(code: int) -> Iterator[bool]:
    """Record that this process fails, so that the others exit with the same code.

    Args:
        code: The exit code.

    Yields:
        Whether this process must report the error: rank 0 if it fails as well, otherwise the first process that
        fails. The others wait for the report, because the launcher ends all processes when one exits.
    """
    if not launched():
        yield True
    elif _Group.store is None:  # before the first `process_group`, all processes fail alike on the same command line
        if launched_rank():
            time.sleep(GRACE)
        yield not launched_rank()
    else:
        speaks = _speaks(code)
        yield speaks
        _set(SAID) if speaks else _soon(SAID)


def _speaks(code: int) -> bool:
    try:
        _Group.store.compare_set(FAILED, "", str(code))
        if launched_rank() and _soon(CLAIMED):
            return False
        return bool(_Group.store.add(CLAIMED, 1) == 1)
    except RuntimeError:  # the process that served the store is gone
        return True


def _set(key: str) -> None:
    with suppress(RuntimeError):
        _Group.store.set(key, "")


def _soon(key: str) -> bool:
    """Whether a key of the store is set within `GRACE` seconds."""
    until = time.monotonic() + GRACE
    with suppress(RuntimeError):
        while time.monotonic() < until:
            if _Group.store.check([key]):
                return True
            time.sleep(0.02)
    return False


def failure() -> int | None:
    """Exit code of the first process that failed; None if none has."""
    if _Group.store is None:
        return None
    try:
        return int(_Group.store.get(FAILED)) if _Group.store.check([FAILED]) else None
    except RuntimeError:
        return None


def lost(error: Exception) -> ResourceError | None:
    """The error to raise if a library's error means that another process is gone; None otherwise."""
    if not launched() or not isinstance(error, RuntimeError) or not BROKEN.search(str(error)):
        return None
    return ResourceError("another process of the group has ended", remedy="see the launcher's message about it")
