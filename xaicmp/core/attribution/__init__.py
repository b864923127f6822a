"""Explanation methods, one file per family. Importing this package fills ``METHODS``."""

from __future__ import annotations

from xaicmp.core.attribution import attention, cam, gradient, model_free, perturbation, propagation  # noqa: F401
from xaicmp.core.attribution.method import METHODS, Method, method
from xaicmp.core.attribution.selection import PUBLISHED, get_methods

__all__ = ["METHODS", "PUBLISHED", "Method", "get_methods", "method"]
