"""Explanation methods, a file a family. Importing this package fills ``METHODS``."""

from __future__ import annotations

from xaicmp.core.attribution import cam, floor, gradient, perturbation, propagation  # noqa: F401
from xaicmp.core.attribution.registry import METHODS, PUBLISHED, Method, get_methods, method

__all__ = ["METHODS", "PUBLISHED", "Method", "get_methods", "method"]
