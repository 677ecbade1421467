"""Several processes of `torchrun` or `accelerate launch` that share one piece of work.

Every process runs the same program and takes its part: `share` selects the part, `join` puts the parts together again,
and `on_main` leaves to rank 0 what only one process may do (writing, or decisions that depend on a folder). Sharing
lasts as long as `process_group` does. Outside it, and with one process, these calls are no-ops and torch is not
imported for them.

Numbers and objects are exchanged over a gloo group of their own, whatever backend the training uses (gloo on CPUs, NCCL
on CUDA). torchrun's key-value store keeps the first failure, because it outlives broken connections.
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

STARTED_BY = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what the launchers set
NUMBERS = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"}
PATIENCE = timedelta(days=7)  # process 0 may wait long for standard input; if one dies, the launcher ends the others
GRACE = 2.0  # seconds for process 0 to fail as well, and to say why
# keys of the store: the first exit code; whether a process wants to say why, and whether it has
FAILED, CLAIMED, SAID = "dact/failed", "dact/claimed", "dact/said"
BROKEN = re.compile(r"gloo|nccl|TCPStore|connection (closed|reset)|broken pipe", re.IGNORECASE)


class _Group:
    """What a process holds of its group.

    Attributes:
        sharing: Whether work is being shared now.
        store: torchrun's key-value store; None before the first sharing.
        gloo: The process group for agreements.
    """

    sharing = False
    store: Any = None
    gloo: Any = None


def check_launch() -> None:
    """Refuse what is left of a launcher's variables, by which a process cannot know its place among others.

    Raises:
        UsageError: Some are missing, or are no numbers that go together.
    """
    fault = _launch_fault()
    if fault is not None:
        raise UsageError(
            fault,
            place="environment",
            remedy=f"start the processes with torchrun or accelerate launch, or unset {', '.join(STARTED_BY)}",
        )


def _launch_fault() -> str | None:
    """What is wrong with the launcher's variables; None where they are complete, or say of no other process."""
    found = {name: os.environ[name] for name in STARTED_BY if name in os.environ}
    numbers = {name: value for name, value in found.items() if name in NUMBERS}
    for name, value in numbers.items():
        if not re.fullmatch(r"[0-9]{1,9}", value) or (name == "WORLD_SIZE" and int(value) < 1):
            return f"{name} is {value!r}, and no number"
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
    """The number of this process as it was started, sharing or not; 0 for one that was started alone."""
    return int(os.environ["RANK"]) if launched() else 0


def local_rank() -> int:
    """Its number among the processes of this machine."""
    return int(os.environ["LOCAL_RANK"]) if launched() else 0


@contextmanager
def process_group() -> Iterator[None]:
    """Share what is done inside among the processes that were started; all of them must come here.

    Raises:
        UsageError: The launcher asks for an engine that splits the model, or its variables are half set.
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
    """Wait for all processes, once."""
    if _Group.gloo is not None:
        return
    # DDP warns of every model that trains all its weights, because other stages need not
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    import torch
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    store, rank, world = next(rendezvous("env://"))
    _Group.store = store
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true":
            raise UsageError(
                f"accelerate is told to use {name}, and every process of dact holds the whole model",
                place="accelerate launch",
                remedy="use --multi_gpu",
            )
    if not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, store=store, rank=rank, world_size=world)
        atexit.register(_part)
    _Group.gloo = distributed.new_group(backend="gloo", timeout=PATIENCE)


def _part() -> None:
    """Close the connections; of a group that failed they are broken, and closing them could wait for ever."""
    from torch import distributed

    if distributed.is_initialized() and failure() is None:
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process among those that share; 0 where nothing is shared."""
    return launched_rank() if _Group.sharing else 0


def world_size() -> int:
    """How many processes share; 1 where nothing is shared."""
    return int(os.environ["WORLD_SIZE"]) if _Group.sharing else 1


def is_main() -> bool:
    """Whether this process is the one that writes and talks."""
    return rank() == 0


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's part: every so-manyth item, so that parts of a sorted sequence are alike; may be empty."""
    return items[rank() :: world_size()] if world_size() > 1 else items


def join(part: Sequence[T]) -> list[T]:
    """What all processes made of their parts, each item for item, in the order of the whole."""
    parts = gather(list(part))
    whole: list[Any] = [None] * sum(map(len, parts))
    for number, one in enumerate(parts):
        whole[number :: len(parts)] = one
    return whole


def gather(value: T) -> list[T]:
    """Every process's value, by its number."""
    if world_size() == 1:
        return [value]
    from torch import distributed

    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value, group=_Group.gloo)
    return values


def broadcast(value: T) -> T:
    """Process 0's value, on every process."""
    if world_size() == 1:
        return value
    from torch import distributed

    values = [value]
    distributed.broadcast_object_list(values, src=0, group=_Group.gloo)
    return values[0]


def all_reduce_max(number: int) -> int:
    """The largest of all processes' numbers."""
    if world_size() == 1:
        return number
    import torch
    from torch import distributed

    value = torch.tensor(int(number))
    distributed.all_reduce(value, distributed.ReduceOp.MAX, group=_Group.gloo)
    return int(value)


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum of all processes' tensors, which are on the CPU, in place."""
    if world_size() > 1:
        from torch import distributed

        distributed.all_reduce(tensor, group=_Group.gloo)
    return tensor


def barrier() -> None:
    """Go on when all processes are here."""
    if world_size() > 1:
        from torch import distributed

        distributed.barrier(group=_Group.gloo)


def on_main(work: Callable[[], T]) -> T:
    """Let process 0 do something; its result, or its error, is everyone's.

    Args:
        work: What is to be done. Its result is sent to the other processes.

    Raises:
        DactError: What `work` raised.
        OSError: Likewise.
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
    """Raise on all processes what went wrong on one of them.

    Args:
        error: What went wrong here, if anything.
    """
    found = next((one for one in gather(error) if one is not None), None)
    if found is not None:
        raise found


@contextmanager
def failing(code: int) -> Iterator[bool]:
    """Tell the group that this process ends with an error, so that the others end with the same code.

    Args:
        code: Its exit code.

    Yields:
        Whether it is this process that must say why: process 0 where it fails as well, else the first that fails. The
        others do not leave before it is said, because the launcher ends all when one leaves.
    """
    if not launched():
        yield True
    elif _Group.store is None:  # nothing was shared yet: all have read the same command line, and fail alike
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
    except RuntimeError:  # the store is gone with the process that kept it
        return True


def _set(key: str) -> None:
    with suppress(RuntimeError):
        _Group.store.set(key, "")


def _soon(key: str) -> bool:
    """Whether a key of the store is set, or soon will be."""
    until = time.monotonic() + GRACE
    with suppress(RuntimeError):
        while time.monotonic() < until:
            if _Group.store.check([key]):
                return True
            time.sleep(0.02)
    return False


def failure() -> int | None:
    """The exit code of the first process that failed; None while none has."""
    if _Group.store is None:
        return None
    try:
        return int(_Group.store.get(FAILED)) if _Group.store.check([FAILED]) else None
    except RuntimeError:
        return None


def lost(error: Exception) -> ResourceError | None:
    """What a library's error says of the group: that a process is gone; None where it says something else."""
    if not launched() or not isinstance(error, RuntimeError) or not BROKEN.search(str(error)):
        return None
    return ResourceError("another process of the group is gone", remedy="see what the launcher says of it")
