"""Fuse the traced encoder, join it with its exit heads, cut both at the layers, and quantise the parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dactcli.exporting.plan import LARGEST
from dactcli.exporting.tracing import IDS, MASK, TYPES, quiet

HEADS = "heads/"  # begins the names of the exit heads' nodes, which stay in float32
FLOAT = "float32/"  # begins the names of those of the encoder's nodes that do
CONTRIB = "com.microsoft"  # where the fused operators stand
PRODUCTS = ["MatMul", "Attention"]
QUANTISED = [*PRODUCTS, "Gather"]


class Stage(NamedTuple):
    """A part of the graph, from one layer to another.

    Attributes:
        model: The graph, as `onnx.ModelProto`.
        carried: Names of the tensors that it takes from the stage before it.
    """

    model: Any
    carried: list[str]


def fuse(encoder: Any, *, heads: int, width: int) -> tuple[Any, int]:
    """Fuse attention, layer norms and activations.

    Args:
        encoder: The traced encoder, `onnx.ModelProto`; it is changed.
        heads: Attention heads.
        width: H.

    Returns:
        The fused graph, and how many layers have fused attention.
    """
    from onnx import helper
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    _split_unsqueezes(encoder)
    wanted = FusionOptions("bert")
    wanted.enable_embed_layer_norm = False  # its embeddings would stay in float32
    # the optimizer takes a layer norm without bias for one with it
    norms = [node for node in encoder.graph.node if node.op_type == "LayerNormalization"]
    wanted.enable_skip_layer_norm = all(len(node.input) == 3 for node in norms)
    with quiet():
        done = optimize_model(
            encoder, "bert", num_heads=heads, hidden_size=width, optimization_options=wanted, opt_level=0
        )
    fused = done.model
    if all(one.domain != CONTRIB for one in fused.opset_import):
        fused.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    return fused, sum(node.op_type == "Attention" for node in fused.graph.node)


def _split_unsqueezes(model: Any) -> None:
    """Write the mask's two new axes as two nodes, the form in which the optimizer knows it."""
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {one.name: one for one in graph.initializer}
    for at, node in enumerate(list(graph.node)):
        axes = constants.get(node.input[1]) if node.op_type == "Unsqueeze" and node.input[0] == MASK else None
        if axes is None or numpy_helper.to_array(axes).tolist() != [1, 2]:
            continue
        graph.initializer.extend([helper.make_tensor(f"mask_axis_{axis}", 7, [1], [axis]) for axis in (1, 2)])
        first = helper.make_node("Unsqueeze", [MASK, "mask_axis_1"], ["mask_rows"])
        second = helper.make_node("Unsqueeze", ["mask_rows", "mask_axis_2"], [node.output[0]])
        graph.node.remove(node)
        graph.node.insert(at, second)
        graph.node.insert(at, first)
        return


def join(encoder: Any, heads: Any) -> Any:
    """One graph of both: the heads read the outputs of the layers.

    Args:
        encoder: The fused encoder; it is changed.
        heads: The traced exit heads.

    Returns:
        The graph, `onnx.ModelProto`, whose outputs are those of both.
    """
    heads = _with_own_weights(heads)
    for part in (encoder, heads):
        _measure_the_mask(part)
    kept = {value.name for value in (*heads.graph.input, *heads.graph.output)}

    def renamed(name: str) -> str:
        return name if name in kept or not name else HEADS + name

    for node in heads.graph.node:
        node.name = HEADS + node.name
        for names in (node.input, node.output):
            names[:] = [renamed(name) for name in names]
    for value in (*heads.graph.initializer, *heads.graph.value_info):
        value.name = renamed(value.name)
    graph = encoder.graph
    graph.node.extend(heads.graph.node)
    graph.initializer.extend(heads.graph.initializer)
    graph.value_info.extend(heads.graph.value_info)
    graph.output.extend(heads.graph.output)
    return encoder


def keep_in_float(whole: Any, layers: Sequence[int]) -> None:
    """Name the products of some layers so that they do not become int8, in place.

    Args:
        whole: The joined graph.
        layers: The layers.
    """
    made_by = {name: node for node in whole.graph.node for name in node.output}
    weights = {one.name: one for one in whole.graph.initializer}
    ends, seen = (
        sorted((value.name for value in whole.graph.output if value.name.startswith("hidden_")), key=_layer),
        set(),
    )
    for end in ends:
        waiting = [end]
        while waiting:
            node = made_by.get(waiting.pop())
            if node is None or node.output[0] in seen:
                continue  # of an earlier layer
            seen.add(node.output[0])
            waiting += node.input
            if _layer(end) in layers and node.op_type in PRODUCTS:
                node.name = FLOAT + node.name
                if node.input[1] in weights:  # a weight of its own: a layer that becomes int8 may share it
                    own = whole.graph.initializer.add()
                    own.CopyFrom(weights[node.input[1]])
                    own.name = f"{node.name}/weight"
                    node.input[1] = own.name


def _with_own_weights(heads: Any) -> Any:
    """The heads with a tensor for each layer; traced, each of them reads a slice of all layers' weights."""
    from onnxscript.optimizer import optimize

    with quiet():
        return optimize(heads, input_size_limit=LARGEST, output_size_limit=LARGEST)


def _measure_the_mask(model: Any) -> None:
    """Read the numbers of rows and tokens off the mask, which every stage has; tracing takes any input for it."""
    for node in model.graph.node:
        name = node.input[0] if node.op_type == "Shape" else ""
        ends = [one.i for one in node.attribute if one.name == "end"]
        if name in (IDS, TYPES) or (name.startswith("hidden_") and ends in ([1], [2])):
            node.input[0] = MASK


def cut(whole: Any, stages: Sequence[int]) -> list[Stage]:
    """Cut the graph after layers.

    A stage takes what the one before it computed, the mask, and nothing else; parts of the graph that depend on the
    mask alone stand in every stage.

    Args:
        whole: The joined graph.
        stages: The last layer of each stage.
    """
    from onnx.utils import Extractor

    outputs = [value.name for value in whole.graph.output]
    extractor = Extractor(whole)
    parts, before = [], 0
    for last in stages:
        own = [name for name in outputs if before < _layer(name) <= last]
        taken = [MASK, IDS, TYPES] if before == 0 else [MASK, *(name for name in outputs if _layer(name) == before)]
        known = [name for name in taken if name in extractor.value_infos]
        parts.append(_without_unread(extractor.extract_model(known, own)))
        before = last
    return [_stage(parts, at, stages) for at in range(len(parts))]


def only(whole: Any, output: str) -> Any:
    """The part of the graph that one of its outputs needs.

    Args:
        whole: The joined graph.
        output: The output's name.
    """
    from onnx.utils import Extractor

    return Extractor(whole).extract_model([value.name for value in whole.graph.input], [output])


def _layer(name: str) -> int:
    return int(name.rpartition("_")[2])


def _without_unread(model: Any) -> Any:
    """The graph without inputs that none of its nodes reads."""
    read = {name for node in model.graph.node for name in node.input}
    for value in list(model.graph.input):
        if value.name not in read:
            model.graph.input.remove(value)
    return model


def _stage(parts: list[Any], at: int, stages: Sequence[int]) -> Stage:
    """A part whose hidden states leave it only at its end, and only where a part follows."""
    graph = parts[at].graph
    following = {value.name for value in parts[at + 1].graph.input} if at + 1 < len(parts) else set()
    for value in list(graph.output):
        if value.name.startswith("hidden_") and value.name not in following:
            graph.output.remove(value)
    carried = [value.name for value in graph.input if value.name not in (MASK, IDS, TYPES)]
    return Stage(parts[at], carried)


def write(stage: Stage, path: Path, *, int8: bool) -> None:
    """Write a stage, checked.

    Args:
        stage: The stage.
        path: The file.
        int8: Whether the encoder's weights become int8. Weights have seven bits and a scale for each column: products
            of eight-bit numbers overflow on processors without VNNI, and answers would differ between machines.

    Raises:
        OSError: The disk does not take it.
    """
    import onnx

    onnx.checker.check_model(stage.model)
    if not int8:
        path.write_bytes(stage.model.SerializeToString())
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = stage.model.graph
    weights = {one.name for one in graph.initializer}
    for value in [one for one in graph.value_info if one.name in weights]:
        graph.value_info.remove(value)  # the quantiser transposes weights, and would compare them with these shapes
    # the nodes by name, because the quantiser makes products of the exit heads' operators, under names of its own
    encoder = [
        node.name for node in graph.node if node.op_type in QUANTISED and not node.name.startswith((HEADS, FLOAT))
    ]
    if not encoder:  # the quantiser would take an empty list for all
        path.write_bytes(stage.model.SerializeToString())
        return
    with quiet():
        quantize_dynamic(
            stage.model,
            path,
            op_types_to_quantize=QUANTISED,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=encoder,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )
