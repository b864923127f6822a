"""A figure as SVG that may stand in a page whose policy forbids styles in attributes."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from xaicmp.views.figures.style import ours, plain_text

LINK = re.compile(r'(?:href="|url\()#(\w+)')
"""What refers to an element by its id, which differs from figure to figure because the salt does."""
FONT = re.compile(r"(?:(?P<weight>bold|\d{3}) )?(?:(?P<style>italic|oblique) )?(?P<size>[\d.]+px) .*")
"""The parts of ``font`` that count; the family is the page's."""
DIGITS = re.compile(r"(\.\d\d)\d+")
"""Of a place: the third decimal on is less than a dot of any screen."""
PLACES = ("d", "x", "y")
"""Attributes that hold places."""


def inline_svg(figure: Figure, name: str) -> Markup:
    """``figure`` as an ``svg`` element, described by the caption of ``name``."""
    file = io.StringIO()
    with ours(), matplotlib.rc_context({"svg.hashsalt": name}):
        plain_text(figure)
        figure.savefig(file, format="svg", metadata={"Date": None})
    linked, root = set(LINK.findall(file.getvalue())), ElementTree.fromstring(file.getvalue())
    for node in list(root.iter()):
        given = {_local(key): value for key, value in node.attrib.items()}
        if given.get("id") not in linked:
            given.pop("id", None)
        if given.get("transform", "").startswith("rotate(-0 "):
            del given["transform"]
        given |= {key: DIGITS.sub(r"\1", given[key]) for key in PLACES if key in given}
        node.tag, node.attrib = _local(node.tag), given | _attributes(given.pop("style", ""))
        for child in list(node):
            if _local(child.tag) in ("metadata", "style"):
                node.remove(child)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-caption", "class": "figure"}
    for surplus in ("height", "version"):  # the width says how tall it is
        root.attrib.pop(surplus, None)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _local(name: str) -> str:
    """Without its namespace, of which HTML has none."""
    return name.rsplit("}", 1)[-1]


def _attributes(style: str) -> dict[str, str]:
    """The declarations of a style as attributes of their own."""
    pairs = (each.split(":", 1) for each in style.split(";") if ":" in each)
    found = {key.strip(): value.strip() for key, value in pairs}
    found.pop("font-family", None)
    if font := FONT.fullmatch(found.pop("font", "")):
        found |= {f"font-{key}": value for key, value in font.groupdict().items() if value}
    return found
