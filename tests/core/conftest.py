"""Tiny networks beside the real one."""

from __future__ import annotations

import pytest
from train_small import SMALL

from xaicmp.core.models.architectures import ARCHITECTURES


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny networks, by name."""
    for name, make in SMALL.items():
        monkeypatch.setitem(ARCHITECTURES, name, make)
