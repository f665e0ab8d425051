"""Fields of a dataclass that say what they may be, and arguments that layers and losses check."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import operator
import types
import typing

from kerasland.errors import UsageError

_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a word",
    tuple[int, int]: "height and width",
}


def choice(*names: str, default: str, help: str):
    """A field that is one of some names."""
    return dataclasses.field(default=default, metadata={"choices": names, "help": help})


def option(default, help: str, **limits):
    """A field of the type that it states; `limits`: "above" what it must be, or "least", with or
    without "below"."""
    return dataclasses.field(default=default, metadata={"help": help, **limits})


def check(instance) -> None:
    """Gives each field its type, where that loses nothing: a whole number for a float.

    Args:
        instance: of a frozen dataclass with fields by `choice` and `option`.

    Raises:
        UsageError: naming the first field that has an impossible value.
    """
    wanted = typing.get_type_hints(type(instance))
    for item in dataclasses.fields(instance):
        key, limits = item.name, item.metadata
        try:
            value = _typed(getattr(instance, key), wanted[key])
        except (TypeError, ValueError):
            refuse(instance, key, f"must be {_KINDS[wanted[key]]}")
        object.__setattr__(instance, key, value)
        if value not in limits.get("choices", (value,)):
            refuse(instance, key, f"must be one of {', '.join(limits['choices'])}")
        if "above" in limits and not value > limits["above"]:
            refuse(instance, key, f"must be above {limits['above']}")
        if "below" in limits and not limits["least"] <= value < limits["below"]:
            refuse(instance, key, f"must be in [{limits['least']}, {limits['below']})")
        if "least" in limits and value < limits["least"]:
            refuse(instance, key, f"must be at least {limits['least']}")


def refuse(instance, key: str, reason: str) -> typing.NoReturn:
    """Raises a UsageError that names a field, its value and what is wrong with it."""
    raise UsageError(f"{key}={getattr(instance, key)!r} {reason}")


def check_keys(kind: type, keys: typing.Iterable[str]) -> None:
    """Raises a UsageError that names the first key which is no field, and the nearest that is."""
    known = {item.name for item in dataclasses.fields(kind)}
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise UsageError(f"unknown key {key!r}; {hint}")


def parse(kind: type, text: str) -> tuple[str, object]:
    """The name and the value, by the type of the field, of a text `key=value`.

    A key that is no field keeps its text, see `check_keys`.

    Raises:
        UsageError: the text has no "=", or a value of another type.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{text}: expected key=value")
    wanted = typing.get_type_hints(kind).get(key, str)
    try:
        if isinstance(wanted, types.GenericAlias):
            height, width = value.lower().replace("x", ",").split(",")
            return key, (int(height), int(width))
        if wanted is bool:
            return key, {"true": True, "1": True, "false": False, "0": False}[value.lower()]
        return key, wanted(value)
    except (ValueError, KeyError):
        name = "HEIGHTxWIDTH" if isinstance(wanted, types.GenericAlias) else wanted.__name__
        raise UsageError(f"{text}: expected a value of type {name}") from None


def written(value) -> str:
    """A value as `parse` takes it."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def describe(kind: type) -> str:
    """All fields with their defaults, a line each, for `--help`."""
    return "\n".join(
        f"  {item.name}={written(item.default)}: {meaning(item)}"
        for item in dataclasses.fields(kind)
    )


def meaning(item: dataclasses.Field) -> str:
    """What a field says of itself, with its choices."""
    choices = item.metadata.get("choices")
    return item.metadata["help"] + (f" ({', '.join(choices)})" if choices else "")


def whole(name: str, value, least: int = 1) -> int:
    """The value as `int`: of a whole number of any kind, also NumPy's.

    Raises:
        ValueError: it is none (`3.0` and `True` are not), or below `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise ValueError(f"{name} must be a whole number, {least} or more, not {value!r}")
    return number


def above_0(name: str, value: float) -> float:
    """The value, if it is above 0 and finite.

    Raises:
        ValueError: it is not, or no number.
    """
    if not (isinstance(value, numbers.Real) and 0 < value < math.inf):
        raise ValueError(f"{name} must be above 0 and finite, not {value!r}")
    return value


def height_and_width(image_shape) -> tuple[int, int]:
    """The shape of an image, pixels, as two `int`.

    Raises:
        ValueError: it is not two whole numbers above 0.
    """
    try:
        height, width = (whole("side", side) for side in image_shape)
    except (TypeError, ValueError):
        raise ValueError(f"image_shape {image_shape}: expected (height, width) in pixels") from None
    return height, width


def _typed(value, wanted: type):
    """The value as its field has it.

    Raises:
        TypeError, ValueError: it is of another type.
    """
    if isinstance(wanted, types.GenericAlias):
        height, width = value
        return operator.index(height), operator.index(width)
    if wanted is float:
        value = None if isinstance(value, str | bool) else float(value)
    elif wanted is int:
        value = None if isinstance(value, bool) else operator.index(value)
    if not isinstance(value, wanted) or value != value or value in (math.inf, -math.inf):
        raise TypeError
    return value
