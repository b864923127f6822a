"""Explanation methods, a file a family. Importing this package fills ``METHODS``."""

from __future__ import annotations

# In the order in which they are listed.
from xaicmp.core.attribution import cam, gradient  # noqa: F401
from xaicmp.core.attribution.registry import METHODS, Method, get_methods, method

PUBLISHED = ("grad-cam", "saliency", "integrated-gradients")

__all__ = ["METHODS", "PUBLISHED", "Method", "get_methods", "method"]
