"""What the converter to ONNX leaves to do: names of axes, half-precision kernels, one network."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kerasland import __version__


def name_axes(graph, landmarks: int) -> None:
    """Says which axes of inputs and outputs have any size, and what the others have."""
    shapes = {
        "image": ("batch", "height", "width", 1),
        "landmarks": ("batch", landmarks, 2),
        "mm_per_px": ("batch",),
    }
    for value in (*graph.input, *graph.output):
        axes = value.type.tensor_type.shape.dim
        for axis, size in zip(axes, shapes.get(value.name, ("batch", landmarks)), strict=True):
            if isinstance(size, str):
                axis.dim_param = size
            else:
                axis.dim_value = size


def fill_in(graph, kind: str, network, outputs: Iterable[str]) -> None:
    """Puts a network in the place of each node of a kind, in loops and conditions too. All read the
    same weights, which the outermost graph holds.

    Args:
        kind: of nodes with one input.
        network: a graph with one input, of nodes and constants.
        outputs: of the network, those that the outputs of such a node stand for.
    """
    weights = {tensor.name: f"network/{tensor.name}" for tensor in network.initializer}
    for tensor in network.initializer:
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = weights[tensor.name]
    count = itertools.count()

    def fill(part) -> None:
        for place in reversed(range(len(part.node))):
            node = part.node[place]
            if node.op_type == kind:
                names = {name: f"network_{next(count)}/{name}" for name in made}
                names |= weights | {network.input[0].name: node.input[0]}
                names |= dict(zip(outputs, node.output, strict=True))
                copy = type(network)()
                copy.CopyFrom(network)
                _rename(copy.node, names)
                nodes = [*part.node[:place], *copy.node, *part.node[place + 1 :]]
                del part.node[:]
                part.node.extend(nodes)
            else:
                for inner in _within(node):
                    fill(inner)

    made = [name for node in network.node for name in node.output]
    fill(graph)


def halve(graph) -> str | None:
    """Kernels as float16, each with a cast to float32 that runtimes do once, when they load; they
    are not the model's own, since the converter multiplies normalisations into them.

    Returns:
        The name of one that float16 cannot hold.
    """
    from onnx import TensorProto, helper, numpy_helper

    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    for tensor in graph.initializer:
        if tensor.name in kernels:
            values, name = numpy_helper.to_array(tensor), tensor.name
            if np.abs(values).max() > np.finfo(np.float16).max:
                return name
            cast = helper.make_node(
                "Cast", [f"{name}_float16"], [name], f"{name}_cast", to=TensorProto.FLOAT
            )
            graph.node.insert(0, cast)
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), cast.input[0]))
    return None


def save(model, path: Path) -> None:
    """Writes a model, signed and checked. What a loop hands on unchanged is read where it is from;
    what nothing needs then is left out."""
    import onnx

    _read_outside(model.graph)
    _prune(model.graph)
    _merge(model.graph, {}, {})
    _number(model.graph)
    _sign(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _sign(model) -> None:
    """Says in ONNX's own fields what the entry `kerasland` of the metadata says, for programs that
    show these; nothing of the conversion, whose names change with each."""
    said = json.loads({entry.key: entry.value for entry in model.metadata_props}["kerasland"])
    keys = ("model", "weights_sha256", "use", "licence", "card")
    model.doc_string = "; ".join(f"{key}: {said[key]}" for key in keys if said[key])
    model.producer_name, model.producer_version = "kerasland", __version__
    model.graph.name, model.graph.doc_string = "kerasland", ""


def _read_outside(graph) -> None:
    """Takes out of loops what they only hand on. (Where it goes by one name as an input and as an
    output of the body, OpenVINO 2026 refuses the file: its issue 35874.)"""
    kept = {value.name for value in graph.output}
    for node in graph.node:
        for body in _within(node):
            same = {n.output[0]: n.input[0] for n in body.node if n.op_type == "Identity"}
            states = range(len(node.input) - 2) if node.op_type == "Loop" else ()
            for i in reversed(states):  # a loop has the number of passes and a condition as well
                inside, made = body.input[i + 2].name, body.output[i + 1].name
                while made in same:
                    made = same[made]
                if made == inside and node.output[i] not in kept:
                    outside = node.input[i + 2]
                    _rename(body.node, {inside: outside})
                    _rename(graph.node, {node.output[i]: outside})
                    for part in (node.input, body.input):
                        del part[i + 2]
                    del node.output[i], body.output[i + 1]
            _read_outside(body)


def _rename(nodes, names: dict[str, str]) -> None:
    """In what nodes read and make, also within others."""
    for node in nodes:
        for of in (node.input, node.output):
            of[:] = [names.get(name, name) for name in of]
        for part in _within(node):
            _rename(part.node, names)
            for value in part.output:
                value.name = names.get(value.name, value.name)


def _prune(graph) -> set[str]:
    """Leaves out nodes and constants that nothing needs, and what is known of shapes.

    Returns:
        Names that the graph reads, its own and those around it.
    """
    used = {value.name for value in graph.output}
    for i in reversed(range(len(graph.node))):
        if used.intersection(graph.node[i].output):
            used.update(graph.node[i].input)
            for part in _within(graph.node[i]):
                used |= _prune(part)
        else:
            del graph.node[i]
    for i in reversed(range(len(graph.initializer))):
        if graph.initializer[i].name not in used:
            del graph.initializer[i]
    del graph.value_info[:]
    return used


def _merge(graph, known: dict[bytes, str], names: dict[str, str]) -> None:
    """Leaves out constants like others in a graph or around it, which are `known` by name; `names`
    says as what those are read that were left out around it."""
    known, names, made = dict(known), dict(names), {value.name for value in graph.output}
    for i in reversed(range(len(graph.initializer))):
        value = type(graph.initializer[i])()
        value.CopyFrom(graph.initializer[i])
        name, value.name = value.name, ""
        like = known.setdefault(value.SerializeToString(deterministic=True), name)
        if like != name and name not in made:
            names[name] = like
            del graph.initializer[i]
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for part in _within(node):
            _merge(part, known, names)


def _number(graph) -> None:
    """Short names within loops: those of the converter say what is within what, and are half of
    what a loop takes."""
    count = itertools.count()

    def number(part, names: dict[str, str]) -> None:
        own = [value.name for value in (*part.input, *part.initializer)]
        own += [name for node in part.node for name in node.output if name]
        names = {**names, **{name: f"loop_{next(count)}" for name in own}}
        for value in (*part.input, *part.output, *part.initializer):
            value.name = names.get(value.name, value.name)
        for node in part.node:
            node.name = ""
            for of in (node.input, node.output):
                of[:] = [names.get(name, name) for name in of]
            for inner in _within(node):
                number(inner, names)

    for node in graph.node:
        for part in _within(node):
            number(part, {})


def _within(node) -> list:
    """The graphs of a loop or a condition."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]
