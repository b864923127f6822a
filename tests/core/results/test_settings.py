"""What is measured, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import xaicmp
from xaicmp.core.agreement.registry import DEFAULT_STATISTICS, STATISTICS, get_statistics
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.scoring import score
from xaicmp.errors import UsageError


def test_maps_of_one_pixel_are_refused() -> None:
    with pytest.raises(UsageError, match="maps of one pixel cannot be compared; give larger images"):
        Settings(["pearson"]).check(1)


def test_statistics_and_controls_are_taken_by_name_or_as_they_are() -> None:
    how = xaicmp.Settings(
        statistics=["pearson", STATISTICS["iou"].at(0.1)], top=0.1, controls=["other-image"]
    )
    assert [each.name for each in how.statistics] == ["pearson", "iou@10%"]
    assert how.statistics[0] is STATISTICS["pearson"]
    assert how.controls == ("other_image", "other_image_same_class")
    assert how == Settings(how.statistics, 0.1, how.controls)
    assert replace(how, controls=["shift", "pooled"]).controls == ("shifted", "pooled")
    assert Settings("ssim", controls="shift") == Settings(["ssim"], controls=["shift"])
    assert Settings(controls="none").controls == Settings(controls=()).controls == ()


def test_the_defaults_are_those_of_the_registries() -> None:
    how = Settings()
    assert how.statistics == get_statistics(DEFAULT_STATISTICS)
    assert how.controls == ("other_image", "other_image_same_class", "shifted")
    assert (how.top, how.level, how.seed, how.curve) == (0.2, 0.95, 0, False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"statistics": ["pearsn"]}, "unknown statistic 'pearsn'; choose from pearson, "),
        ({"statistics": ["iou", STATISTICS["iou"]]}, "statistic 'iou' is named twice; name each once"),
        ({"statistics": []}, "statistics names none; choose from pearson, "),
        (
            {"controls": ["chance"]},
            "unknown control 'chance'; choose from other-image, shift, resolution, other-class, none",
        ),
        ({"controls": ["none", "shift"]}, "controls none goes alone; leave it or the others out"),
        ({"level": 95}, "level 95 is no level of an interval; give one between 0 and 1, as 0.95"),
        ({"level": float("nan")}, "level nan is no level of an interval"),
        ({"margin": 0}, "margin 0 is no margin; give one above 0 and up to 2, as 0.05"),
        ({"margin": 2.01}, "margin 2.01 is no margin"),
    ],
)
def test_wrong_values_are_refused_in_a_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        Settings(**values)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_it_is_shown_in_a_line_that_gives_it_back() -> None:
    assert repr(Settings(["pearson", "iou"], 0.1, ["shift"])) == (
        "Settings(statistics=['pearson', 'iou'], top=0.1, controls=['shifted'])"
    )
    how = Settings(["ssim"], controls=["other-image"], level=0.9, seed=3, curve=True, margin=2)
    assert eval(repr(how)) == how


def test_a_share_is_looked_at_only_by_the_statistics_that_need_it() -> None:
    Settings(["pearson"], top=0.2).check(4)
    Settings(["pearson"], top=7).check(4)
    Settings([STATISTICS["iou"].at(0.5)], top=0.2).check(4)
    for how in (
        Settings(["pearson", "iou"]),
        Settings(["rbo"]),
        Settings([STATISTICS["iou"].at(0.1)], top=0.5),
    ):
        with pytest.raises(UsageError, match=r"^top 0\.[12] leaves no pixel of 4; ask for at least 0\.25$"):
            how.check(4)
    with pytest.raises(UsageError, match=r"^top 7: "):
        Settings(["iou"], top=7).check(4)


def test_maps_of_2_x_2_pixels_are_compared_by_pearson() -> None:
    maps = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    rows = np.arange(3)
    chosen = Predictions(rows, rows, rows, np.full(3, 0.5), rows)
    how = Settings(["pearson"], controls=["other-image", "shift", "resolution"])
    how.check(4)
    found = score(Explanations(chosen, torch.empty(0), ("a", "b"), maps), how).values["pearson"]["a", "b"]
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(*maps.double().numpy(), strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
