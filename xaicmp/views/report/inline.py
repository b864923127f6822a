"""A figure as SVG that may stand in a page whose policy forbids styles in attributes."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from xaicmp.views.figures.style import ours, plain_text

LINK = re.compile(r"(?:url\()?#(?P<name>[^)]+)\)?")
FONT = re.compile(r"(?:(?P<weight>bold|\d{3}) )?(?:(?P<style>italic|oblique) )?(?P<size>[\d.]+px) .*")
"""The parts of ``font`` that count; the family is the page's."""


def inline_svg(figure: Figure, name: str) -> Markup:
    """``figure`` as an ``svg`` element named ``name``, whose ids begin so too."""
    plain_text(figure)
    file = io.BytesIO()
    with ours(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    for node in list(root.iter()):
        node.tag, given = _local(node.tag), {_local(key): value for key, value in node.attrib.items()}
        node.attrib = given | _attributes(given.pop("style", ""))
        for child in list(node):
            if _local(child.tag) in ("metadata", "style"):
                node.remove(child)
    links = [
        (node, key, match["name"])
        for node in root.iter()
        for key, value in node.attrib.items()
        if (match := LINK.fullmatch(value)) and (key == "href" or value.startswith("url"))
    ]
    for node, key, target in links:
        node.attrib[key] = node.attrib[key].replace(f"#{target}", f"#{name}-{target}")
    named = {target for _, _, target in links}
    for node in root.iter():
        if (own := node.attrib.pop("id", None)) in named:
            node.attrib["id"] = f"{name}-{own}"
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
    if font := FONT.fullmatch(found.pop("font", "")):
        found |= {f"font-{key}": value for key, value in font.groupdict().items() if value}
    return found
