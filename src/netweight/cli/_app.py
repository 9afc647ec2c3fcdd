"""The typer application: one command per verb, built from its flags."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Optional

import typer

import netweight
from netweight import verbs
from netweight.cli._flags import Flag, flags, summary

VERBS = ("weigh", "compress", "train", "evaluate", "study", "report", "verify", "run", "bench", "doctor")
Handler = Callable[[str, dict[str, Any], bool], int]


def build(handle: Handler) -> typer.Typer:
    """The application. ``handle(verb, values, traceback)`` does the work and returns the exit code."""
    app = typer.Typer(
        name="netweight",
        help="Make a neural network smaller, faster and cheaper, and prove what that cost.",
        epilog="weigh → compress → evaluate → report → verify; every move leaves evidence.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,  # plain text: a third faster, and it can be piped
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in VERBS:
        verb = getattr(verbs, name)
        app.command(name, help=_plain(summary(verb)))(_command(name, verb, handle))
    return app


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"netweight {netweight.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Options of ``netweight`` itself."""


def _command(name: str, verb: Callable[..., Any], handle: Handler) -> Callable[..., None]:
    """A function with the signature typer is to read."""
    known = flags(verb)

    def command(traceback: bool, **values: Any) -> None:
        split = {flag.name: _value(flag, values[flag.name]) for flag in known}
        raise typer.Exit(handle(name, split, traceback))

    words = [_parameter(flag) for flag in known]
    words.append(
        inspect.Parameter(
            "traceback",
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=Annotated[bool, typer.Option("--traceback", help="On an error show where it arose.")],
        )
    )
    command.__signature__ = inspect.Signature(words)  # type: ignore[attr-defined]
    command.__annotations__ = {word.name: word.annotation for word in words}
    return command


def _parameter(flag: Flag) -> inspect.Parameter:
    help_text = _plain(flag.help)
    if flag.kind == "argument":
        kind, info = (list[str] if flag.many else flag.type), typer.Argument(help=help_text)
    else:
        dashes = "--" + flag.name.replace("_", "-")
        kind, info = (str if flag.many else flag.type), typer.Option(dashes, help=help_text)
    default = ",".join(flag.default) if flag.many and flag.default else flag.default
    if not flag.required and default is None:
        kind = Optional[kind]  # noqa: UP045 (the type is a value here)
    return inspect.Parameter(
        flag.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if flag.required else default,
        annotation=Annotated[kind, info],
    )


def _value(flag: Flag, given: Any) -> Any:
    if flag.many and flag.kind == "option" and given is not None:
        return tuple(word.strip() for word in given.split(",") if word.strip())
    return given


def _plain(text: str) -> str:
    """Double backquotes are for readers of the source."""
    return text.replace("``", "")
