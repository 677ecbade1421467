"""The outputs of all layers by Ray workers, for `dact eval --engine ray` and `dact eval --calibrate --engine ray`.

The driver reads and tokenises the examples, and workers run the layers on blocks of them. What comes back is put
together in the order of the examples, as `collect` would have it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dactcli.api.common import open_any
from dactcli.api.workers import BlockWorker, Cluster, SharedModel, check_ray, connected, worker_device, worker_place

if TYPE_CHECKING:
    from dactcli.data.batches import Encoded
    from dactcli.runs.load import Run
    from dactcli.runs.outputs import LayerOutputs

EXAMPLES = 2000  # of a block


def collect_on_ray(
    run: Run,
    encoded: Encoded,
    *,
    batch_size: int,
    progress: Callable[[int, int], None] | None,
    cluster: Cluster,
) -> LayerOutputs:
    """Run all layers on all examples, in the workers of a Ray cluster.

    Args:
        run: A run or export that every worker finds in the same folder.
        encoded: The examples.
        batch_size: Examples per batch.
        progress: Called with the number of examples done, and the total.
        cluster: The workers.

    Returns:
        The outputs, in the order of the examples.

    Raises:
        UsageError: torchrun has started several processes.
        ArtefactError: Some answers are not finite, or a worker finds another model.
        ResourceError: Ray is not installed, or the cluster cannot be reached or fails.
    """
    import torch
    from safetensors.torch import load

    from dactcli.runs.outputs import LayerOutputs, facts_of

    check_ray()
    total = len(encoded.lengths)
    # an export forms its own batches, on which the answers of int8 depend: all of its examples go to one worker
    size = total if run.exported else EXAMPLES
    starts = range(0, total, size)
    items = [
        {"start": start, "examples": pickle.dumps(encoded.select(range(start, min(start + size, total))))}
        for start in starts
    ]
    found, done = {}, 0
    model = SharedModel(worker_place(run), _digest(run))
    arguments = {"model": model, "device": worker_device(cluster.gpus_per_worker), "batch_size": batch_size}
    with connected(cluster) as pool:
        for part in pool.answers(OutputsWorker, arguments, items):
            start, tensors = pickle.loads(part)
            found[start] = load(tensors)
            done += len(found[start]["y"])
            if progress is not None:
                progress(done, total)
    ordered = [found[start] for start in starts]
    whole: dict[str, Any] = {name: torch.cat([part[name] for part in ordered]) for name in ordered[0]}
    return LayerOutputs(**whole, **facts_of(run.model))


class OutputsWorker(BlockWorker):
    """Runs all layers on blocks of examples, with a model that it loads once.

    Args:
        model: The run or export.
        device: Where it runs.
        batch_size: Examples per batch.
    """

    def __init__(self, model: SharedModel, device: str, batch_size: int) -> None:
        from dactcli.api.common import quieten_libraries

        quieten_libraries()
        self.model, self.device, self.batch_size = model, device, batch_size

    @cached_property
    def run(self) -> Run:
        """The model; opened with the first block, so that an error of it comes back as its own sentence."""
        opened = open_any(self.model.place, device=self.device)
        self.model.check(_digest(opened))
        return opened

    def answer(self, item: dict[str, Any]) -> bytes:
        """Run a block.

        Args:
            item: `start`, the position of its first example, and the pickled `examples`.

        Returns:
            The start and the tensors of `LayerOutputs`.

        Raises:
            ArtefactError: Answers are not finite, or this worker's model is not the driver's.
        """
        from safetensors.torch import save

        from dactcli.runs.outputs import collect_of_run

        encoded: Encoded = pickle.loads(item["examples"])
        outputs = collect_of_run(self.run, encoded, batch_size=self.batch_size, progress=None, first=item["start"] + 1)
        return pickle.dumps((item["start"], save(outputs.tensors())))


def _digest(run: Run) -> str:
    """Digest of what a run's or export's answers depend on."""
    from dactcli.runs.identity import identify
    from dactcli.runtime.manifest import read_manifest

    return read_manifest(run.folder).digest if run.exported else identify(run).digest
