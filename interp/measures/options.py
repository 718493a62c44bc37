"""Options of a measure: is a value of the annotated kind, how it is written into a provenance, how it is read from text."""

import ast
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from interp.core.errors import InterpError
from interp.core.registry import nearest

PLAIN = (bool, int, float, str, type(None))


def check_value(asked: str, value: Any, annotation: Any) -> None:
    """Refuse a value that the annotation does not admit; a misspelt choice is answered with the nearest ones."""
    if _fits(value, annotation):
        return
    choices = [choice for kind in _alternatives(annotation) if get_origin(kind) is Literal for choice in get_args(kind)]
    if isinstance(value, str) and choices:
        raise InterpError(f"measure {asked}", f"{value!r} is none of its choices", nearest(value, choices))
    raise InterpError(
        f"measure {asked}", f"the option is of type {show_annotation(annotation)}", "give a value of that type"
    )


def record(value: Any) -> Any:
    """``value`` as plain JSON: names of metrics, provenance of batches, lists of numbers and words."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, tuple | list):
        return [record(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): record(item) for key, item in value.items()}
    if hasattr(value, "provenance_dict"):
        return value.provenance_dict()
    if isinstance(name := getattr(value, "name", None), str):
        return name
    return repr(value)


def read(text: str, annotation: Any) -> Any:
    """The value that ``text`` (from a command line) stands for: ``none``, ``true``, a number, a word, or words by commas."""
    kinds = _alternatives(annotation)
    if text.lower() in ("none", "true", "false"):
        value: Any = {"none": None, "true": True, "false": False}[text.lower()]
        if _fits(value, annotation):
            return value
    for kind in kinds:
        if kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
        if get_origin(kind) is tuple and "," in text:
            return tuple(_word(word.strip()) for word in text.split(",") if word.strip())
    return text


def show_annotation(annotation: Any) -> str:
    """The annotation as it is written in a signature."""
    if get_origin(annotation) in (Union, types.UnionType):
        return " | ".join(show_annotation(kind) for kind in get_args(annotation))
    if get_origin(annotation) is Literal:
        return f"Literal[{', '.join(map(repr, get_args(annotation)))}]"
    if annotation is type(None):
        return "None"
    if get_origin(annotation) is tuple:
        inside = ", ".join("..." if kind is Ellipsis else show_annotation(kind) for kind in get_args(annotation))
        return f"tuple[{inside}]"
    return getattr(annotation, "__name__", str(annotation))


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _fits(value: Any, annotation: Any) -> bool:
    for kind in _alternatives(annotation):
        if get_origin(kind) is Literal:
            fits = value in get_args(kind)
        elif get_origin(kind) is tuple:
            inner = get_args(kind)[0]
            fits = isinstance(value, tuple | list) and len(value) > 0 and all(_fits(item, inner) for item in value)
        elif kind is Any:
            fits = True
        elif kind is float:
            fits = isinstance(value, int | float) and not isinstance(value, bool)
        elif kind is int:
            fits = isinstance(value, int) and not isinstance(value, bool)
        else:
            fits = isinstance(value, kind)
        if fits:
            return True
    return False


def _word(text: str) -> Any:
    return ast.literal_eval(text) if text.lstrip("-").isdigit() else text
