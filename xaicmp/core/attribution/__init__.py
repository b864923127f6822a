"""Explanation methods, a file a family. Importing this package fills ``METHODS``."""

from __future__ import annotations

# isort: off  (in the order in which they are listed)
from xaicmp.core.attribution import cam, floor, gradient, perturbation, propagation  # noqa: F401

# isort: on
from xaicmp.core.attribution.registry import METHODS, PUBLISHED, Method, get_methods, method

__all__ = ["METHODS", "PUBLISHED", "Method", "get_methods", "method"]
