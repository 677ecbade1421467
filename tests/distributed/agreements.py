"""Three processes that agree on things; run by test_processes.py."""

from __future__ import annotations

import torch

from dactcli import group
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


assert group.world_size() == 1  # nothing is shared before
assert group.is_main()
with group.together():
    with group.together():  # as a command and the library call under it do
        rank = group.rank()
    assert (group.world_size(), group.is_main()) == (3, rank == 0)
    assert list(group.share(range(7))) == list(range(7))[rank::3]
    assert group.join([item * 2 for item in group.share(range(7))]) == list(range(0, 14, 2))
    assert group.join(group.share(["one"])) == ["one"]  # fewer than processes
    assert group.join([]) == []
    assert group.gather(rank) == [0, 1, 2]
    assert group.broadcast(rank) == 0
    assert group.most(rank) == 2
    assert group.add(torch.tensor([1.0, float(rank)])).tolist() == [3.0, 3.0]
    assert group.by_main(lambda: rank) == 0
    error = raised(group.by_main, refuse)
    assert isinstance(error, DataError)
    assert error.sentence == "here: is wrong; mend it"
    error = raised(group.by_main, stop)
    assert isinstance(error, StoppedError)
    assert (error.exit_code, error.sentence) == (143, "there: stopped")
    group.settle(None)
    assert "of 2" in str(raised(group.settle, DataError(f"of {rank}") if rank == 2 else None))
    group.wait()
assert group.world_size() == 1
