"""The command line. Here alone, errors become a line on stderr and an exit status."""

from __future__ import annotations

import codecs
import gc
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Any

import typer

from xaicmp.cli import explain, figure, metrics, train
from xaicmp.cli.multivalue import Group, MultiValueCommand
from xaicmp.errors import Interrupted, UsageError, XaicmpError
from xaicmp.views.table import printable

# Everything that is wrong with a command line derives from this class, be Click apart or inside Typer.
CommandLineError: Any = typer.BadParameter.__mro__[2]


app = typer.Typer(
    name="xaicmp",
    cls=Group,
    help="Do explanation methods agree? Measure it, image by image.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"auto_envvar_prefix": "XAICMP", "help_option_names": ["-h", "--help"]},
)
for module in (train, explain, metrics, figure):
    app.command(cls=MultiValueCommand)(module.command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xaicmp {version_of('xaicmp')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Do explanation methods agree? Measure it, image by image."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    try:
        typed = shlex.join(["xaicmp", *arguments])
        status = app(args=list(arguments), prog_name="xaicmp", standalone_mode=False, obj=typed)
        sys.stdout.flush()
    except CommandLineError as error:
        if not arguments:  # the help has been shown
            return UsageError.exit_code
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "xaicmp"
        message = _place_of(error) + error.format_message().replace("Value error, ", "").rstrip(". ")
        return _fail(f"{message}. See `{command} --help`.", UsageError.exit_code)
    except XaicmpError as error:
        return _fail(error.on_the_command_line(), error.exit_code)
    except KeyboardInterrupt:  # where Typer does not see it
        return _fail("interrupted", Interrupted.exit_code)
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and "_XAICMP_COMPLETE" in os.environ:
            return int(error.code or 0)  # with which a shell is told whether there is anything to offer
        # The reader has gone, as `head` does; Typer and rich make an exit of it.
        _drop_stdout()
        return 0
    except (MemoryError, RuntimeError) as error:
        from xaicmp.core.machine.memory import ran_out

        if not ran_out(error):
            raise
        return _fail("memory ran out; ask for fewer images, methods or samples", XaicmpError.exit_code)
    except OSError as error:
        if error.filename is None:  # what is printed has no name
            _drop_stdout()
        place = f"cannot use {error.filename}" if error.filename else "cannot write to standard output"
        return _fail(f"{place}: {error.strerror or error}; fix this and run again", XaicmpError.exit_code)
    if status == Interrupted.exit_code:
        return _fail("interrupted", Interrupted.exit_code)
    return status or 0


def _place_of(error: Any) -> str:
    """The file or the variable that holds a wrong value; empty for the command line."""
    context, option = getattr(error, "ctx", None), getattr(error, "param", None)
    if context is None or option is None or (source := context.get_parameter_source(option.name)) is None:
        return ""
    variable = f"{context.auto_envvar_prefix}_{option.name.upper()}"
    places = {"DEFAULT_MAP": context.meta.get("config"), "ENVIRONMENT": variable}
    return f"{places[source.name]}: " if source.name in places else ""


def _drop_stdout() -> None:
    """Point stdout at the null device, so that the interpreter can flush it at its end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> int:
    with suppress(OSError):  # a full disk behind stderr: the status says it
        sys.stderr.write(f"xaicmp: {printable(' '.join(message.split()))}\n")
    return status


ALIKE = {"±": "+-", "✗": "x", "τ": "tau", "─": "-", "━": "-", "·": "."}
"""Replacements for characters that a terminal cannot show."""


def _alike(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(ALIKE.get(each, "?") for each in error.object[error.start : error.end]), error.end


def _take_streams() -> None:
    """Write only characters that the terminal can show, and send to stderr what other code writes to stdout's descriptor."""
    codecs.register_error("xaicmp", _alike)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr.reconfigure(errors="xaicmp")  # type: ignore[union-attr]
    encoding, mine = sys.stdout.encoding, os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = os.fdopen(mine, "w", encoding=encoding, errors="xaicmp")
    sys.__stdout__ = sys.stdout  # type: ignore[misc]  # whose width is asked for


def main() -> None:
    """The console script."""
    if sys.stdout is None:
        sys.exit(_fail("standard output is closed; open it, or redirect it to a file", XaicmpError.exit_code))
    _take_streams()
    warnings.filterwarnings(
        "ignore", module="PIL"
    )  # of images that are damaged a little, and shown all the same
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # of a home that cannot be written to
    if os.path.expanduser("~") == "~":  # noqa: PTH111  (pathlib raises)
        os.environ["HOME"] = os.devnull  # a user without one: libraries fail where they look for it on import
    if not os.environ.get("COLUMNS", "1").strip("0"):
        del os.environ["COLUMNS"]  # nobody knows; rich would show nothing
    status = run(sys.argv[1:])
    if "TORCHELASTIC_RUN_ID" in os.environ or status == Interrupted.exit_code:
        # Now and then torch's threads of several processes abort the interpreter on its way out. And where Ctrl-C came
        # while a class was made from text, as on import, Python ends by the signal whatever has become of it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    gc.freeze()  # a last search for garbage among all that torch has imported would take half a second and more
    sys.exit(status)
