"""From a verb's signature to command-line parameters: positional ones become arguments, keyword-only ones options."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

PYTHON_ONLY = ("Iterable[", "Progress", "Module", "Tensor")  # batches, callbacks and live objects have no words
SIMPLE: dict[str, type] = {"bool": bool, "int": int, "float": float}
SECTION = re.compile(r"^(Args|Returns|Raises|Source|Yields):\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Flag:
    """One parameter of a verb as the command line shows it."""

    name: str
    kind: Literal["argument", "option"]
    type: Any  # bool, int, float, str or a Literal of str
    many: bool  # one or more (argument); separated by commas (option)
    required: bool
    default: Any
    help: str


def flags(verb: Callable[..., Any]) -> tuple[Flag, ...]:
    """The flags of a verb, in the order of its signature, without what only Python can pass."""
    texts = argument_texts(verb)
    typed = [p for p in inspect.signature(verb).parameters.values() if not str(p.annotation).startswith(PYTHON_ONLY)]
    return tuple(_flag(parameter, texts) for parameter in typed)


def summary(verb: Callable[..., Any]) -> str:
    """The docstring up to its first section."""
    return SECTION.split(inspect.getdoc(verb) or "")[0].strip()


def argument_texts(verb: Callable[..., Any]) -> dict[str, str]:
    """``name: text`` of the docstring's ``Args:``, continuation lines joined."""
    parts = SECTION.split(inspect.getdoc(verb) or "")
    titles, bodies = parts[1::2], parts[2::2]
    body = textwrap.dedent(dict(zip(titles, bodies, strict=True)).get("Args", "").strip("\n"))
    entries = re.split(r"^(\w+): ", body, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in zip(entries[1::2], entries[2::2], strict=True)}


def _flag(parameter: inspect.Parameter, texts: dict[str, str]) -> Flag:
    kind, many = _type(str(parameter.annotation))
    required = parameter.default is inspect.Parameter.empty
    return Flag(
        name=parameter.name,
        kind="option" if parameter.kind is inspect.Parameter.KEYWORD_ONLY else "argument",
        type=kind,
        many=many,
        required=required,
        default=None if required else parameter.default,
        help=texts.get(parameter.name, ""),
    )


def _type(annotation: str) -> tuple[Any, bool]:
    """What a word typed by a user becomes, and whether there may be several.

    Annotations are read as text, because what they name (a module, an artifact) would have to be imported to evaluate
    them; whatever is not a plain number or choice is a path or a name, hence text.
    """
    parts = [ast.unparse(part) for part in _alternatives(ast.parse(annotation, mode="eval").body)]
    many = any(part.startswith("Sequence[") for part in parts)
    for part in parts:
        if part.startswith("Literal["):
            choices = ast.literal_eval(part.removeprefix("Literal[").removesuffix("]") + ",")
            return Literal[*choices], many  # pyright: ignore[reportInvalidTypeForm]
        if part in SIMPLE:
            return SIMPLE[part], many
    return str, many


def _alternatives(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_alternatives(node.left), *_alternatives(node.right)]
    return [node]
