"""Figures, one file per kind, which has the kind's name."""

from pkgutil import iter_modules

SHARED = ("layout", "registry", "style")
"""The files that draw no kind of their own."""


def kind_names() -> list[str]:
    """The kinds that ship, without importing them: what is drawn by default first."""
    found = [each.name.replace("_", "-") for each in iter_modules(__path__) if each.name not in SHARED]
    return sorted(found, key=lambda name: (name != "maps", name))
