"""What can be chosen is what there is."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from xaicmp.core import choices
from xaicmp.core.agreement.controls import CONTROLS, NONE
from xaicmp.core.agreement.registry import STATISTICS
from xaicmp.core.attribution.gradient import RULES
from xaicmp.core.attribution.method import REDUCTIONS
from xaicmp.core.training.recipe import RECIPES


@pytest.mark.parametrize(
    ("choice", "registry"),
    [
        (choices.Reduction, REDUCTIONS),
        (choices.Rule, RULES),
        (choices.Statistic, STATISTICS),
        (choices.Control, [*CONTROLS, NONE]),
        (choices.RecipeName, RECIPES),
    ],
)
def test_the_choices_are_those_of_the_registry(choice: Any, registry: Any) -> None:
    assert get_args(choice) == tuple(registry)
