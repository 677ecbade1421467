"""Three processes that agree on things; run by test_processes.py."""

from __future__ import annotations

import torch

from dactcli import distributed
from dactcli.errors import DataError, StoppedError


def raised(work: object, *values: object) -> Exception:
    try:
        work(*values)  # type: ignore[operator]
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def refuse() -> None:
    raise DataError("is wrong", place="here", remedy="mend it")


def stop() -> None:
    raise StoppedError(15, "stopped", place="there")


assert distributed.world_size() == 1  # nothing is shared before
assert distributed.is_main()
with distributed.process_group():
    with distributed.process_group():  # as a command and the library call under it do
        rank = distributed.rank()
    assert (distributed.world_size(), distributed.is_main()) == (3, rank == 0)
    assert list(distributed.share(range(7))) == list(range(7))[rank::3]
    assert distributed.join([item * 2 for item in distributed.share(range(7))]) == list(range(0, 14, 2))
    assert distributed.join(distributed.share(["one"])) == ["one"]  # fewer than processes
    assert distributed.join([]) == []
    assert distributed.gather(rank) == [0, 1, 2]
    assert distributed.broadcast(rank) == 0
    assert distributed.all_reduce_max(rank) == 2
    assert distributed.all_reduce_sum(torch.tensor([1.0, float(rank)])).tolist() == [3.0, 3.0]
    assert distributed.on_main(lambda: rank) == 0
    error = raised(distributed.on_main, refuse)
    assert isinstance(error, DataError)
    assert error.sentence == "here: is wrong; mend it"
    error = raised(distributed.on_main, stop)
    assert isinstance(error, StoppedError)
    assert (error.exit_code, error.sentence) == (143, "there: stopped")
    distributed.raise_everywhere(None)
    assert "of 2" in str(raised(distributed.raise_everywhere, DataError(f"of {rank}") if rank == 2 else None))
    distributed.barrier()
assert distributed.world_size() == 1
