"""From the names of methods and groups to methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from xaicmp.core.attribution.method import METHODS, REDUCTIONS, Method
from xaicmp.errors import UsageError

LISTED = "`xaicmp explain --list-methods` shows them all"

PUBLISHED = ("grad-cam", "saliency", "integrated-gradients")


def groups() -> dict[str, tuple[str, ...]]:
    """The names that stand for several methods: ``published``, each family, ``all``."""
    families = dict.fromkeys(each.family for each in METHODS.values())
    members = {
        family: tuple(n for n, each in METHODS.items() if each.family == family) for family in families
    }
    return {"published": PUBLISHED, **members, "all": tuple(METHODS)}


def get_methods(names: Sequence[str], *, reduce: str | None = None, **settings: Any) -> tuple[Method, ...]:
    """The methods that ``names`` mean, in that order, each with those of ``settings`` that it takes.

    Args:
        names: of methods, of groups, ``method:reduction``, ``package.module:function``, or of an entry point
            in the group ``xaicmp.methods``.
        reduce: the reduction of all methods that have channels or signs to reduce, instead of their own.
        settings: options of methods.

    Raises:
        UsageError: an unknown name or reduction, a method named twice, or none.
    """
    from xaicmp.core.attribution.plugins import entry_points, find_plugin

    if reduce is not None and reduce not in REDUCTIONS:
        raise UsageError(f"unknown reduction {reduce!r}; choose from {', '.join(REDUCTIONS)}")
    chosen: dict[str, Method] = {}
    known = groups()
    for name in names:
        members = known.get(name, (name,))
        for member in members:
            if member in chosen and len(members) == 1:
                raise UsageError(f"method {member!r} is named twice; name each once")
            base, colon, reduction = member.partition(":")
            if base in METHODS:
                found = METHODS[base]
            elif colon and reduction not in REDUCTIONS:
                found, colon = find_plugin(member), ""
            elif named := entry_points(base):
                found = named[base]
            else:
                near = get_close_matches(base.lower(), [*METHODS, *entry_points(), *known], n=1)
                meant = f"did you mean {near[0]}? " if near else ""
                raise UsageError(f"unknown method {member!r}; {meant}{LISTED}")
            chosen.setdefault(member, _configured(found, reduction if colon else "", reduce, settings))
    if not chosen:
        raise UsageError(f"--methods names none; {LISTED}")
    return tuple(chosen.values())


def _configured(found: Method, own: str, reduce: str | None, settings: dict[str, Any]) -> Method:
    """``found`` with its options bound, reduced by ``own`` or ``reduce`` if one is given."""
    if own and own not in REDUCTIONS:
        raise UsageError(f"{found.name}:{own}: unknown reduction; choose from {', '.join(REDUCTIONS)}")
    bound = {
        key: default if settings.get(key) is None else settings[key] for key, default in found.options.items()
    }
    if own:
        name, title = f"{found.name}:{own}", f"{found.title} ({own})"
        return replace(found, name=name, title=title, reduction=own, options=bound)
    return replace(found, reduction=reduce or found.reduction, options=bound)
