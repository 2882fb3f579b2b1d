"""The `dsq` command: finds the subcommand asked for, loads only that one, reports errors.

A subcommand is a function typed for typer, or a typer.Typer with subcommands of its own.
Those of this package are listed in COMMANDS; other packages add theirs through entry points
in the group `dsq.commands`. A module is imported when its command is asked for, so that
`dsq --help` is fast and an extra that is not installed only matters to the commands using it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, NoReturn

import typer

from dsqformat._version import __version__

ENTRY_POINT_GROUP = "dsq.commands"


@dataclass(frozen=True)
class CommandInfo:
    """What `dsq --help` and error messages say of a command without importing it.

    Attributes:
        summary: one line for `dsq --help`.
        extra: the extra that brings what the command imports; empty if none is needed.
        target: `module:name` of the command; empty if an entry point names it.
    """

    summary: str
    extra: str = ""
    target: str = ""


# In the order `dsq --help` shows them.
COMMANDS: dict[str, CommandInfo] = {
    "pack": CommandInfo(
        "Make a dataset of an image folder, tars, Parquet or .npz.",
        "pack",
        "dsqformat.commands.pack:pack",
    ),
    "info": CommandInfo(
        "Show what a dataset or shard holds.", target="dsqformat.commands.info:info"
    ),
    "verify": CommandInfo(
        "Check every byte of a dataset or shard.", target="dsqformat.commands.verify:verify"
    ),
    "unpack": CommandInfo(
        "Write a dataset as image folder, .npz or tar.",
        "pack",
        "dsqformat.commands.unpack:unpack",
    ),
    "condense": CommandInfo(
        "Condense a dataset by a recipe: select, mask, give bits, quantize.",
        "build",
        "dsqformat.recipes.command:command",
    ),
    "serve": CommandInfo("Serve the datasets below a folder over HTTP.", "server"),
    "pull": CommandInfo("Copy a dataset from a URL, resuming where a copy stopped.", "client"),
    "gc": CommandInfo(
        "Remove what no ref of a dataset reaches.", target="dsqformat.commands.gc:gc"
    ),
    "evaluate": CommandInfo(
        "Train on each of several datasets; compare accuracy and bytes.",
        "build",
        "dsqformat.condense.evaluate.command:evaluate",
    ),
    "bench": CommandInfo(
        "Measure bytes and speed beside picture codecs.",
        "bench",
        "dsqformat.bench.command:app",
    ),
    "demo": CommandInfo("Pack, serve, stream and train on real photographs.", "demo"),
}

# Which extra brings a package that commands import (its import name, not its project name).
EXTRA_OF_PACKAGE = {
    "PIL": "pack",
    "fastapi": "server",
    "matplotlib": "demo",
    "pyarrow": "pack",
    "skimage": "demo",
    "sklearn": "demo",
    "starlette": "server",
    "torch": "torch",
    "urllib3": "client",
    "uvicorn": "server",
    "webdataset": "pack",
}

Command = Callable[..., object] | typer.Typer


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `dsq` and leave with its exit code.

    The code is 0 on success, 1 for an error told in one line on stderr, 2 for wrong usage.

    Args:
        argv: arguments after the program's name; sys.argv[1:] if None.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    asked_for = args[0] if args and not args[0].startswith("-") else ""
    try:
        _build_app(asked_for)(args=args, prog_name="dsq")
    except ImportError as error:
        message = _describe_missing_package(error, asked_for)
        if not message:
            raise
        _fail(message)
    except Exception as error:
        if not _is_expected(error):
            raise
        _fail(_describe(error))
    sys.exit(0)


def _build_app(asked_for: str) -> typer.Typer:
    """Return an app with every command's name and summary, and only `asked_for` loaded."""
    app = typer.Typer(
        add_completion=False,
        help="Image datasets as integer codes: pack, inspect, serve, stream.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    if asked_for in COMMANDS and COMMANDS[asked_for].target:
        # A command of this package: other packages need not be looked for.
        _add_command(app, asked_for, _import_target(COMMANDS[asked_for].target))
        return app
    added = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    for name in [*COMMANDS, *sorted(added.keys() - COMMANDS.keys())]:
        if name == asked_for and name in added:
            _add_command(app, name, added[name].load())
        else:
            app.command(name, help=_summary(name, added.get(name)))(_not_loaded)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dsq {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Take the options that stand before any command."""


def _not_loaded() -> None:
    raise RuntimeError("dsq: a command was run that had not been loaded")


def _add_command(app: typer.Typer, name: str, command: Command) -> None:
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def _import_target(target: str) -> Command:
    module, _, attribute = target.partition(":")
    command: Command = getattr(import_module(module), attribute)
    return command


def _summary(name: str, point: EntryPoint | None) -> str:
    if name in COMMANDS:
        return COMMANDS[name].summary
    provider = point.dist.name if point is not None and point.dist is not None else "a plugin"
    return f"(added by {provider})"


def _describe_missing_package(error: ImportError, asked_for: str) -> str:
    """Return the line for an extra that is not installed; empty for any other import error."""
    if "dsqformat[" in str(error):  # raised with the remedy in it
        return str(error)
    package = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or package not in EXTRA_OF_PACKAGE:
        return ""
    info = COMMANDS.get(asked_for, CommandInfo(""))
    extra = info.extra or EXTRA_OF_PACKAGE[package]
    return (
        f"`dsq {asked_for}` needs {package}, which is not installed: "
        f"pip install 'dsqformat[{extra}]'"
    )


def _is_expected(error: Exception) -> bool:
    """Tell whether an error is one of ours or of the system, not a fault of the program."""
    from dsqformat.errors import DsqError

    return isinstance(error, DsqError | OSError)


def _describe(error: Exception) -> str:
    """Return what to say of an expected error; the file comes first, its number is left out."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _fail(message: str) -> NoReturn:
    # One line, whatever a system message may hold.
    print(f"dsq: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)
