"""From the names of methods and groups to methods, and from the options in a name to their values."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, get_args

from xaicmp.core.attribution.libraries import LIBRARIES, find_in_library
from xaicmp.core.attribution.method import METHODS, REDUCTIONS, Method
from xaicmp.core.attribution.plugins import entry_points, find_plugin
from xaicmp.errors import UsageError, arg

LISTED = f"`xaicmp explain {arg('list_methods')}` shows them all"
PUBLISHED = ("grad-cam", "saliency", "integrated-gradients")
KINDS: dict[type, str] = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}
"""What the values of options may be."""
MOST = 1_000_000
"""Whole numbers, of steps and samples, are at most this."""


def groups() -> dict[str, tuple[str, ...]]:
    """The names that stand for several methods: ``published``, each family, ``all``."""
    families = dict.fromkeys(each.family for each in METHODS.values())
    members = {
        family: tuple(n for n, each in METHODS.items() if each.family == family) for family in families
    }
    return {"published": PUBLISHED, **members, "all": tuple(METHODS)}


def get_methods(
    names: Sequence[str],
    *,
    reduce: str | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Method, ...]:
    """The methods that ``names`` mean, in that order.

    Args:
        names: of methods, of groups, ``captum:Class``, ``pytorch_grad_cam:Class``, ``package.module:function``, or
            of an entry point in the group ``xaicmp.methods``. A method's name may be followed by a colon and, with commas between them, a reduction
            and options: ``integrated-gradients:steps=64,rule=middle``, ``saliency:sum-abs``. So the same method can be
            named several times, differently.
        reduce: the reduction of all methods that have channels or signs to reduce, instead of their own.
        settings: values of options by method, as in ``{"integrated-gradients": {"steps": 64}}``; what a name says
            comes before them.

    Raises:
        UsageError: an unknown name, reduction, option or value, a method named twice, or none.
    """
    if reduce is not None and reduce not in REDUCTIONS:
        raise UsageError(f"unknown reduction {reduce!r}; choose from {', '.join(REDUCTIONS)}")
    base = {}
    for name, values in (settings or {}).items():
        if name not in METHODS:
            raise UsageError(f"settings for an unknown method {name!r}; {LISTED}")
        base[name] = {key: _checked(METHODS[name], key, value) for key, value in values.items()}
    chosen: dict[str, Method] = {}
    known, alone = groups(), set()
    for name in names:
        for member in known.get(name, (name,)):
            found = _configured(member, reduce, base)
            if found.name in alone and name not in known:
                raise UsageError(f"method {found.name!r} is named twice; name each once")
            alone |= set() if name in known else {found.name}
            chosen.setdefault(found.name, found)
    if not chosen:
        raise UsageError(f"no method is named; {LISTED}")
    return tuple(chosen.values())


def find_known(name: str) -> Method | None:
    """The method of ``METHODS`` that ``name`` configures, if it does; nothing is imported."""
    try:
        return _configured(name, None, {}) if name.partition(":")[0] in METHODS else None
    except UsageError:
        return None


def split_names(word: str) -> list[str]:
    """``a,b:x,c=1,d`` to ``a``, ``b:x,c=1`` and ``d``.

    A comma belongs to the name before it if that has a colon and what follows is ``option=value`` or a reduction.
    """
    names: list[str] = []
    for piece in word.split(","):
        if names and ":" in names[-1] and _is_part(piece):
            names[-1] += f",{piece}"
        else:
            names.append(piece)
    return names


def _is_part(text: str) -> bool:
    return text in REDUCTIONS or ("=" in text and text.partition("=")[0].isidentifier())


def _configured(spec: str, reduce: str | None, settings: Mapping[str, Mapping[str, Any]]) -> Method:
    """The method that ``spec`` names, with its options bound."""
    found, parts = _find(spec)
    reductions, given = [part for part in parts if "=" not in part], {}
    for part in parts:
        key, equals, value = part.partition("=")
        if equals and key in given:
            raise UsageError(f"{found.name}: {key} is set twice; set it once")
        if equals:
            given[key] = _parsed(found, key, value)
        elif part not in REDUCTIONS:
            raise UsageError(
                f"{found.name}: unknown reduction {part!r}; choose from {', '.join(REDUCTIONS)}, "
                f"or set an option; it has {_options(found)}"
            )
    if len(reductions) > 1:
        raise UsageError(f"{found.name}: two reductions, {' and '.join(reductions[:2])}; name one")
    own = [*reductions, *(f"{key}={given[key]}" for key in found.options if key in given)]
    options = found.options | dict(settings.get(found.name, {})) | given
    reduction = reductions[0] if reductions else reduce or found.reduction
    if not own:
        return replace(found, reduction=reduction, options=options)
    name, title = f"{found.name}:{','.join(own)}", f"{found.title} ({', '.join(own)})"
    if found.title == found.name:
        title = name
    return replace(found, name=name, title=title, reduction=reduction, options=options)


def _find(spec: str) -> tuple[Method, list[str]]:
    """The method that ``spec`` names, and the reduction and the options that follow its name."""
    base, colon, rest = spec.partition(":")
    if base in LIBRARIES and colon:
        kind, colon, rest = rest.partition(":")
        return find_in_library(base, kind), rest.split(",") if colon else []
    parts = rest.split(",") if colon else []
    for each in METHODS.values():
        if base == each.name or base.lower() == each.title.lower():
            return each, parts
    if parts and not all(map(_is_part, parts)):
        return find_plugin(spec), []
    if named := entry_points(base):
        return named[base], parts
    near = get_close_matches(base.lower(), [*METHODS, *entry_points(), *groups()], n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"unknown method {spec!r}; {meant}{LISTED}")


def _options(found: Method) -> str:
    return ", ".join(found.options) or "none"


def _parsed(found: Method, key: str, text: str) -> Any:
    """The value that ``text`` means, of the type of the option's default."""
    kind = type(found.options.get(key, ""))
    if kind not in KINDS:
        raise UsageError(f"{found.name}: {key} cannot be set in a name; give it in the settings")
    try:
        value = kind(text) if kind is not bool else {"true": True, "false": False}.get(text.lower(), text)
        return _checked(found, key, value)
    except ValueError:
        raise UsageError(f"{found.name}: {key} {text}: give {KINDS[kind]}") from None


def _checked(found: Method, key: str, value: Any) -> Any:
    """``value``, if the option ``key`` may have it."""
    if key not in found.options:
        raise UsageError(f"{found.name}: no option {key!r}; it has {_options(found)}")
    kind = type(found.options[key])
    if kind is float and type(value) is int:
        value = float(value)
    choices = get_args(inspect.get_annotations(found.function, eval_str=True).get(key)) if kind is str else ()
    if choices and value not in choices:
        raise UsageError(f"{found.name}: {key} {value}: choose from {', '.join(choices)}")
    if kind in KINDS and (type(value) is not kind or (kind is float and not math.isfinite(value))):
        raise UsageError(f"{found.name}: {key} {value}: give {KINDS[kind]}")
    if kind is int and value > MOST:
        raise UsageError(f"{found.name}: {key} {value}: give at most {MOST:,}")
    return value
