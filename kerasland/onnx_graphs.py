"""What the converter to ONNX leaves to do: names of axes, half-precision kernels, one network.

The converter hands weights on from pass to pass of the loop of `looks.Looks`, in which runtimes
can fuse nothing into them, and which would store them again once they are halved or quantised.
"""

from __future__ import annotations

import itertools
import json
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
    """Writes a model with one network, signed and checked.

    The network within a loop becomes a copy of that before it, with the same weights; what a loop
    hands on unchanged is read where it is from; what nothing needs then is left out.
    """
    import onnx

    for loop in model.graph.node:
        for body in _within(loop):
            if any(node.op_type == "Conv" for node in body.node):
                _graft(model.graph, body)
    _read_outside(model.graph)
    _prune(model.graph)
    _merge(model.graph, {})
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


def _graft(graph, body) -> None:
    """All from the first to the last convolution of a body, as in the graph around it, whose
    weights both then read."""
    (frame, heatmaps, _), (seen, wanted, last) = _network(graph), _network(body)
    copies, needed = [], {heatmaps}
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            copies.insert(0, node)
            needed.update(name for name in node.input if name != frame)
    assert not needed.intersection(value.name for value in graph.input), "a way past the frame"
    names = {name: f"{name}_again" for node in copies for name in node.output}
    names |= {frame: seen, heatmaps: wanted}
    del body.node[last]
    for place, node in enumerate(copies, start=last):
        copy = type(node)()
        copy.CopyFrom(node)
        copy.name = f"{node.name}_again"
        copy.input[:] = [names.get(name, name) for name in node.input]
        copy.output[:] = [names[name] for name in node.output]
        body.node.insert(place, copy)


def _network(graph) -> tuple[str, str, int]:
    """What goes into the first convolution, before it is quantised, and what the last one, of that
    number among the nodes, makes of it."""
    places = [i for i, node in enumerate(graph.node) if node.op_type == "Conv"]
    made_by = {name: node for node in graph.node for name in node.output}
    frame = graph.node[places[0]].input[0]
    while frame in made_by and made_by[frame].op_type in ("QuantizeLinear", "DequantizeLinear"):
        frame = made_by[frame].input[0]
    return frame, graph.node[places[-1]].output[0], places[-1]


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
                    _rename(body, inside, outside)
                    _rename(graph, node.output[i], outside)
                    for part in (node.input, body.input):
                        del part[i + 2]
                    del node.output[i], body.output[i + 1]
            _read_outside(body)


def _rename(graph, name: str, to: str) -> None:
    """In what nodes read, also within others."""
    for node in graph.node:
        node.input[:] = [to if given == name else given for given in node.input]
        for part in _within(node):
            _rename(part, name, to)


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


def _merge(graph, known: dict[bytes, str]) -> None:
    """Leaves out constants like others in a graph or around it, which are `known` by name."""
    known, made = dict(known), {value.name for value in graph.output}
    for i in reversed(range(len(graph.initializer))):
        value = type(graph.initializer[i])()
        value.CopyFrom(graph.initializer[i])
        name, value.name = value.name, ""
        like = known.setdefault(value.SerializeToString(deterministic=True), name)
        if like != name and name not in made:
            _rename(graph, name, like)
            del graph.initializer[i]
    for node in graph.node:
        for part in _within(node):
            _merge(part, known)


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
