"""Make the inputs of int8 products fit one scale.

ONNX Runtime quantises the input of a product while it runs, with one scale for the whole batch, which the largest entry
sets. A few channels of an encoder's feed-forward layers are many times larger than the others, which then share the few
levels that are left. Such channels are divided by a number, and their weights multiplied by it, before the weights
become int8: the product stays what it was (SmoothQuant, Xiao et al. 2023, https://arxiv.org/abs/2211.10438; there all
channels are scaled, here those above most others).

B batch, T tokens, K channels of a product's input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dactcli.data.batches import Encoded, by_length, encode
from dactcli.exporting.graphs import HEADS, PRODUCTS
from dactcli.exporting.tracing import quiet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dactcli.runs.load import Run

LENGTHS = (4, 8, 16, 32)  # tokens of the texts that the channels are measured on
TEXTS = 32  # of each length
ORDINARY = 0.99  # share of the channels that stay as they are
APART = 2.0  # the largest channel is so many times the largest ordinary one, or nothing is gained


def scale_outliers(whole: Any, run: Run) -> int:
    """Scale the large channels of the inputs of an encoder's products, in place.

    The channels are measured on texts of random tokens, so no data are needed; on SST-2 they find the channels that its
    sentences find.

    Args:
        whole: The joined graph in float32, `onnx.ModelProto`.
        run: The run that it was made from.

    Returns:
        How many products have scaled inputs.
    """
    from onnx import helper, numpy_helper

    graph = whole.graph
    weights = {one.name: one for one in graph.initializer if len(one.dims) == 2}
    products = [
        node
        for node in graph.node
        if node.op_type in PRODUCTS and not node.name.startswith(HEADS) and node.input[1] in weights
    ]
    largest = _largest(whole, run, sorted({node.input[0] for node in products}))
    scaled = 0
    for node in products:
        channels = largest[node.input[0]]
        ordinary = float(np.quantile(channels, ORDINARY, method="lower"))
        if channels.max() <= APART * ordinary:
            continue
        factors, name = np.maximum(channels / ordinary, 1).astype(np.float32), f"scaled_{scaled}"
        # layers may share a weight, so each product gets its own
        own = numpy_helper.to_array(weights[node.input[1]]) * factors[:, None]
        graph.initializer.append(numpy_helper.from_array(own, f"{name}_weight"))
        graph.initializer.append(numpy_helper.from_array(1 / factors, f"{name}_factors"))
        inputs = [node.input[0], f"{name}_factors"]
        graph.node.insert(list(graph.node).index(node), helper.make_node("Mul", inputs, [name], name=name))
        node.input[:2] = [name, f"{name}_weight"]
        scaled += 1
    return scaled


def _largest(whole: Any, run: Run, names: list[str]) -> dict[str, NDArray[np.float32]]:
    """The largest size of each channel of some tensors, by their names [K]."""
    import onnx
    import onnxruntime

    graph = whole.graph
    before = len(graph.output)
    graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    with quiet():
        session = onnxruntime.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])
    del graph.output[before:]
    read = [one.name for one in session.get_inputs()]
    found = {name: np.zeros(1, dtype=np.float32) for name in names}
    for _, batch in by_length(run.tokenizer, _texts(run), TEXTS):
        values = session.run(names, {name: batch[name].numpy() for name in read})
        real = batch["attention_mask"].numpy().astype(bool)
        for name, value in zip(names, values, strict=True):
            rows = value[real] if value.shape[:2] == real.shape else value.reshape(-1, value.shape[-1])
            found[name] = np.maximum(found[name], np.abs(rows).max(0))
    return found


def _texts(run: Run) -> Encoded:
    """Texts of random tokens of the vocabulary."""
    tokenizer, rng = run.tokenizer, np.random.default_rng(0)
    special = set(tokenizer.all_special_ids)
    ordinary = [number for number in range(len(tokenizer)) if number not in special]
    texts = [tokenizer.decode(rng.choice(ordinary, length).tolist()) for length in LENGTHS for _ in range(TEXTS)]
    return encode(tokenizer, texts, max_length=tokenizer.model_max_length, long_texts="cut")
