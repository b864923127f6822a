"""Options that take several values, as ``--ids 3 7 12``, which Click does not know; and a shorter help."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

import typer.core

from xaicmp.errors import UsageError

VALUE = re.compile(r"-(\d|$)")
"""What begins as an option does and is a value: a negative number, or ``-`` for stdin."""
NUMBERS = re.compile(r"[\s\d,-]*")
MOST = 1_000_000


class PlainFlags:
    """Shows a flag in ``--help`` without the type ``<bool>`` and without its opposite, ``--no-``."""

    def format_help(self, ctx, formatter):  # type: ignore[no-untyped-def]
        for parameter in self.get_params(ctx):  # type: ignore[attr-defined]
            if getattr(parameter, "is_flag", False):
                parameter.metavar, parameter.secondary_opts = "", []
        super().format_help(ctx, formatter)  # type: ignore[misc]


class Group(PlainFlags, typer.core.TyperGroup):
    """The command above the subcommands."""


class MultiValueCommand(PlainFlags, typer.core.TyperCommand):
    """A command without arguments whose repeatable options also take several values at once.

    ``--ids 3 7 12`` is read as ``--ids 3 --ids 7 --ids 12``: every word up to the next option is a value.
    """

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def]  # Click's own types moved into Typer
        several = {
            name
            for parameter in self.params
            if getattr(parameter, "multiple", False)
            for name in parameter.opts
        }
        if not ctx.resilient_parsing:
            return super().parse_args(ctx, spread(args, several))
        ctx.meta["words"] = [word for word in args if word != "="]  # a shell may take it for a word
        with suppress(UsageError):
            args = spread(args, several)
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx, incomplete):  # type: ignore[no-untyped-def]
        """Complete another value of an option that takes several, else the name of an option."""
        words = ctx.meta["words"]
        last = max((at for at, word in enumerate(words) if word.startswith("-")), default=len(words))
        name = "".join(words[last : last + 1]).partition("=")[0]
        for parameter in self.params if not incomplete.startswith("-") else ():
            if name in parameter.opts and (parameter.multiple or words[last:] == [name]):
                return parameter.shell_complete(ctx, incomplete)
        return super().shell_complete(ctx, incomplete)


def spread(arguments: list[str], several: set[str]) -> list[str]:
    """Repeat each option in ``several`` before each of its values."""
    result: list[str] = []
    option, given = None, False
    for position, word in enumerate(arguments):
        if word == "--":
            if option and not given:
                break
            return result + arguments[position:]
        if word.startswith("-") and not VALUE.match(word):
            if option and not given:
                break
            name, equals, _ = word.partition("=")
            option, given = (name if name in several else None), bool(equals)
            if option is None or equals:
                result.append(word)
        elif option:
            result += [option, word]
            given = True
        else:
            result.append(word)
    if option and not given:
        raise UsageError(f"{option} needs a value, or several: {option} A B C")
    return result


def no_names(word: str) -> int:
    """Raise UsageError, because the images have no names."""
    raise UsageError(f"--ids {word!r}: ids count from 0; write 3 7 12, or 3,7,12, or 0-99")


def parse_ids(words: list[str], find: Callable[[str], int] = no_names) -> tuple[int, ...]:
    """``["3", "7,12", "0-2"]`` to ``(3, 7, 12, 0, 1, 2)``; ``find`` gives the id of a name.

    Raises:
        UsageError: a word that is neither an id nor a range of ids, and no name.
    """
    ids: list[int] = []
    for word in (part for each in words for part in (each.split(",") if NUMBERS.fullmatch(each) else [each])):
        match = re.fullmatch(r"\s*(\d{1,18})(?:-(\d{1,18}))?\s*", word)
        if not match:
            ids.append(find(word))
            continue
        first = int(match[1])
        last = int(match[2] or first)
        if last < first:
            raise UsageError(f"--ids {word}: the range runs backwards; write {last}-{first}")
        if last - first >= MOST:
            raise UsageError(f"--ids {word}: that is more than {MOST:,} images; name fewer")
        ids += range(first, last + 1)
    return tuple(ids)
