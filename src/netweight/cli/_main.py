"""Run one command line: errors become one line on stderr and an exit code.

0    done                         4    a claim does not hold (EvidenceError)
1    problems found (doctor)      130  interrupted
2    any other NetweightError,    141  the reader of our output went away
     or a wrong command line
3    left undone (PartialError), or would be (dry run)
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from netweight.errors import EvidenceError, NetweightError, PartialError

if TYPE_CHECKING:
    from netweight.progress import Progress

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of ``netweight ARGUMENTS...``."""
    try:
        status = _dispatch(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit; without this that would print the error we keep quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        return _interrupted()


def _dispatch(arguments: list[str]) -> int:
    import typer
    from typer.exceptions import TyperException

    from netweight.cli._app import build

    command = typer.main.get_command(build(handle))
    try:
        return command.main(arguments or ["--help"], prog_name="netweight", standalone_mode=False) or 0
    except TyperException as error:
        message = error.format_message().replace("Value error, ", "")  # how pydantic starts a refusal
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "netweight"
        print(f"error: {message} (see {command} --help)", file=sys.stderr)
        return 2


def handle(verb: str, values: dict[str, Any], traceback: bool) -> int:
    """Call a verb, show what it returns, and turn what it raises into an exit code."""
    from netweight.cli._progress import shown
    from netweight.cli._render import exit_code, show, show_json

    as_json = values.pop("json", False)
    try:
        with shown(sys.stderr) as progress:
            value = _call(verb, values, progress)
        if as_json:
            show_json(value)
        else:
            show(value)
        return exit_code(value)
    except NetweightError as error:
        if traceback:
            raise
        if isinstance(error, EvidenceError):
            show(error.found)
        print(f"error: {error}", file=sys.stderr)
        return _code_of(error)
    except BrokenPipeError:
        raise
    except OSError as error:  # of a file that a user named, mostly
        if traceback:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return _interrupted(resumable=verb in ("compress", "train", "study"))


def _call(verb: str, values: dict[str, Any], progress: Progress) -> Any:
    from netweight import verbs

    function = getattr(verbs, verb)
    if "progress" in inspect.signature(function).parameters:
        values = values | {"progress": progress}
    return function(**values)


def _code_of(error: NetweightError) -> int:
    if isinstance(error, PartialError):
        return 3
    return 4 if isinstance(error, EvidenceError) else 2


def _interrupted(*, resumable: bool = False) -> int:
    print("interrupted" + "; resume by running the same command" * resumable, file=sys.stderr)
    return EXIT_INTERRUPTED
