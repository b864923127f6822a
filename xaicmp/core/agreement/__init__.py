"""How far two maps agree, and the controls that the agreement is held against.

Importing this package fills ``STATISTICS``, one family per file, in the order of the tables.
"""

from __future__ import annotations

# ruff: isort: off
from xaicmp.core.agreement import correlation, structure, top_pixels, mass, disagreement  # noqa: F401
