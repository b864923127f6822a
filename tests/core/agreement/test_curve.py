"""IoU at many shares at once, against IoU at each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xaicmp.core.agreement import statistic as statistics
from xaicmp.core.agreement.curve import curve_shares, iou_curves
from xaicmp.core.agreement.registry import agreement, iou
from xaicmp.core.agreement.top_pixels import top_pixels


def maps_of(*shape: int) -> torch.Tensor:
    """Maps that have something in common, and two images with ties and a NaN."""
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    maps = maps + maps[:1]
    maps[1, 2] = maps[1, 2].round()
    maps[2, 4, 0, 0] = torch.nan
    return maps


@pytest.mark.parametrize("cells", [1, 200, 10**6])
@pytest.mark.parametrize("sides", [(10, 12), (5, 9), (2, 1)])
def test_the_curve_is_iou_share_by_share(
    sides: tuple[int, int], cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes through at once."""
    monkeypatch.setattr(statistics, "CELLS", cells)
    maps = maps_of(3, 7, *sides)
    found = iou_curves(maps.transpose(0, 1), "abc", True)
    shares = curve_shares(sides[0] * sides[1])
    assert list(found) == ["observed", "other_image"]
    for each in found.values():
        assert list(each) == [("a", "b"), ("a", "c"), ("b", "c")]
        assert {values.shape for values in each.values()} == {(7, len(shares))}
    for (a, b), values in found["observed"].items():
        one, other = (maps["abc".index(name)] for name in (a, b))
        for column, share in zip(values.T, shares, strict=True):
            np.testing.assert_allclose(column, agreement("iou", one, other, share), rtol=0, atol=1e-15)
        expected = [
            [agreement("iou", one[[i]], other[[j]], shares[-1]).item() for j in range(7) if j != i]
            for i in range(7)
        ]
        with np.errstate(all="ignore"):
            means = np.array([np.nanmean(each) if np.isfinite(each).any() else np.nan for each in expected])
        np.testing.assert_allclose(found["other_image"][a, b][:, -1], means, rtol=0, atol=1e-14)


def test_an_image_alone_has_a_curve_and_no_floor() -> None:
    found = iou_curves(maps_of(3, 5, 8, 8)[:, :1].transpose(0, 1), "abc", True)
    assert np.isfinite(found["observed"]["a", "b"]).all()
    assert np.isnan(found["other_image"]["a", "b"]).all()
    assert list(iou_curves(maps_of(3, 5, 8, 8).transpose(0, 1), "abc", False)) == ["observed"]


def test_the_shares_are_whole_percents_of_a_pixel_or_more() -> None:
    assert curve_shares(1024) == [each / 100 for each in range(1, 51)]
    assert curve_shares(10) == [each / 100 for each in range(10, 51)]
    assert curve_shares(2) == [0.5]
    for pixels in range(2, 2000):
        counts = [percent for percent in range(1, 51) if percent * pixels >= 100]
        assert curve_shares(pixels) == [percent / 100 for percent in counts]


def test_a_constant_map_has_no_curve_and_enters_no_mean() -> None:
    maps = torch.rand(6, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    maps[1, 0], maps[4, 1] = 0, 3
    found = iou_curves(maps, "ab", True)
    assert np.isnan(found["observed"]["a", "b"]).all(axis=1).tolist() == [
        False,
        True,
        False,
        False,
        True,
        False,
    ]
    for row in range(6):
        others = [other for other in range(6) if row != 1 and other not in (row, 4)]
        for index, share in enumerate(curve_shares(64)):
            values = [
                iou(*(top_pixels(m[None], share) for m in (maps[row, 0], maps[o, 1]))).item() for o in others
            ]
            expected = np.mean(values) if values else np.nan
            assert found["other_image"]["a", "b"][row, index] == pytest.approx(expected, nan_ok=True)


def test_each_point_of_the_curve_has_exactly_its_pixels() -> None:
    a, b = torch.rand(2, 1, 10, 10, generator=torch.Generator().manual_seed(0))
    curve = iou_curves(torch.stack([a, b], dim=1), "ab", False)["observed"]["a", "b"][0]
    for percent, value in enumerate(curve, 1):
        tops = [set(each.flatten().argsort(descending=True)[:percent].tolist()) for each in (a, b)]
        assert value == pytest.approx(len(tops[0] & tops[1]) / len(tops[0] | tops[1]), abs=1e-12)
