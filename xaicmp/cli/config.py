"""Options in a file: ``--config run.toml`` reads them, ``--show-config`` prints them, and documents carry them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from xaicmp.core.machine.storage import text_of
from xaicmp.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ORIGIN: ContextVar[dict[str, Any]] = ContextVar("ORIGIN", default={})  # noqa: B039  # nobody writes into it
"""What documents record: ``command``, the line as typed, and ``config``, its options as a file."""
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def key_of(name: str) -> str:
    """The key of a field in a file: its option without the dashes."""
    return name.rstrip("_").replace("_", "-")


def config_option(annotations: Mapping[str, Any]) -> Any:
    """``--config`` of a command whose fields have these annotations."""

    def read(context: typer.Context, path: Path | None) -> Path | None:
        if path is not None and not context.resilient_parsing:
            context.default_map = _read(path, annotations)
            context.meta["config"] = path
        return path

    return typer.Option(
        help="Read options from this TOML file, as --show-config prints it. The command line wins over variables such as "
        "XAICMP_METRICS_N, and these over the file. To turn off a flag that the file turns on, write no- before its name: --no-fast.",
        metavar="FILE",
        rich_help_panel="Running",
        is_eager=True,
        callback=read,
        show_envvar=False,
    )


SHOW = typer.Option(
    "--show-config",
    help="Print the TOML file that makes this run again, and exit.",
    show_envvar=False,
    rich_help_panel="Running",
)


def _read(path: Path, annotations: Mapping[str, Any]) -> dict[str, Any]:
    """The values in a file, by field.

    Raises:
        UsageError: the file cannot be read, or a key or a value is wrong.
    """
    try:
        given = tomllib.loads(text_of(path))
    except OSError as error:
        raise UsageError(
            f"cannot read --config {path}: {error.strerror}; --show-config prints such a file"
        ) from error
    except (ValueError, RecursionError) as error:  # of UTF-8 too
        raise UsageError(f"{path} is no TOML file: {error}; --show-config prints one") from error
    names = {key_of(name): name for name in annotations}
    for key, value in given.items():
        if key not in names:
            near = get_close_matches(key, names, 1)
            hint = f"did you mean {near[0]}?" if near else "see --help for the options"
            raise UsageError(f"{path}: there is no option {key!r}; {hint}")
        several, kind = kind_of(annotations[names[key]])
        values = value if several and isinstance(value, list) else [value]
        if (several and not isinstance(value, list)) or not all(_is(each, kind) for each in values):
            wanted = f"a list, each {WORDS[kind]}" if several else WORDS[kind]
            raise UsageError(f"{path}: {key} = {_toml(value)} is of the wrong type; give {wanted}")
    return {names[key]: value for key, value in given.items()}


def kind_of(annotation: Any) -> tuple[bool, type]:
    """Whether an option takes several values, and the type of each: bool, int, float or str."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (UnionType, Union):
        annotation = next(each for each in get_args(annotation) if each is not type(None))
    if get_origin(annotation) is list:
        return True, kind_of(get_args(annotation)[0])[1]
    return False, str if annotation is Path or get_origin(annotation) is Literal else annotation


def _is(value: Any, kind: type) -> bool:
    return type(value) is kind or (kind is float and type(value) is int)


def to_toml(values: Mapping[str, Any]) -> str:
    """The options of a run as a TOML file, without those that are None."""
    return "".join(f"{key_of(name)} = {_toml(each)}\n" for name, each in values.items() if each is not None)


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | Path):  # JSON's text is TOML's, but for one character
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)  # numbers, and what is no value of an option
