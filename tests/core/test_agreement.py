from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.stats
import torch

from xaicmp.core.agreement import IOU, PEARSON, STATISTICS, check_top, count_top, iou, pearson, top_pixels
from xaicmp.core.errors import UsageError

KINDS = (
    "normal",
    "uniform",
    "integers",
    "two values",
    "constant",
    "zero",
    "one pixel",
    "nan",
    "all nan",
    "inf",
    "-inf",
    "huge",
    "tiny",
    "subnormal",
    "signed zeros",
    "offset",
    "sorted",
)


def draw(kind: str, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A float32 map of one kind."""
    values = rng.normal(size=shape)
    pixel = (rng.integers(shape[0]), rng.integers(shape[1]))
    with np.errstate(over="ignore"):
        if kind == "uniform":
            values = rng.uniform(size=shape)
        elif kind == "integers":
            values = rng.integers(-3, 4, size=shape).astype(float)
        elif kind == "two values":
            values = (values > 0.8).astype(float)
        elif kind == "constant":
            values = np.full(shape, 0.1)
        elif kind in ("zero", "one pixel"):
            values = np.zeros(shape)
            if kind == "one pixel":
                values[pixel] = rng.uniform(0.1, 1)
        elif kind in ("nan", "inf", "-inf"):
            values[pixel] = float(kind)
        elif kind == "all nan":
            values = np.full(shape, np.nan)
        elif kind == "huge":
            values *= 1e37
        elif kind == "tiny":
            values *= 1e-37
        elif kind == "subnormal":
            values *= 1e-42
        elif kind == "signed zeros":
            values = np.where(values > 1, values, np.where(values > 0, 0.0, -0.0))
        elif kind == "offset":
            values = values + 1000
        elif kind == "sorted":
            values = np.sort(values, axis=None).reshape(shape)
        return values.astype(np.float32)


def pairs(seed: int, count: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Every kind against every kind first, then at random."""
    rng = np.random.default_rng(seed)
    kinds = [(a, b) for a in KINDS for b in KINDS]
    kinds += [tuple(rng.choice(KINDS, 2)) for _ in range(count - len(kinds))]
    a, b = (np.stack([draw(kind[side], rng, shape) for kind in kinds]) for side in (0, 1))
    # Maps that agree, oppose each other, and agree but for noise.
    a = np.concatenate([a, a[:90], a[:90], a[:90]])
    b = np.concatenate([b, a[:90], -a[:90], a[:90] + rng.normal(size=(90, *shape)).astype(np.float32)])
    return a, b


def top_by_hand(values: np.ndarray, top: float) -> tuple[set[int], bool]:
    """The top pixels, one by one, and whether the last one in equals the best one out."""
    left = list(enumerate(values.ravel().tolist()))
    chosen: list[tuple[int, float]] = []
    while len(chosen) < int(top * values.size):
        best = left[0]
        for candidate in left:
            if candidate[1] > best[1]:
                best = candidate
        left.remove(best)
        chosen.append(best)
    return {index for index, _ in chosen}, any(value == chosen[-1][1] for _, value in left)


@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (2, 1)])
def test_pearson_is_scipys(shape: tuple[int, int]) -> None:
    a, b = pairs(1, 1200, shape)
    ours = pearson(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    assert ours.dtype == np.float64
    defined = 0
    for x, y, value in zip(a, b, ours, strict=True):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            expected = scipy.stats.pearsonr(x.ravel().astype(float), y.ravel().astype(float)).statistic
        if np.isnan(expected) or not (np.isfinite(x).all() and np.isfinite(y).all()):
            assert np.isnan(value)
        else:
            defined += 1
            assert value == pytest.approx(expected, abs=1e-6)
            assert -1 <= value <= 1
    assert defined > 300


def test_pearson_of_a_map_of_one_pixel_is_undefined() -> None:
    assert pearson(torch.rand(3, 1, 1), torch.rand(3, 1, 1)).isnan().all()


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_pearson_does_not_leave_the_range_of_float64(scale: float) -> None:
    a, b = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(pearson(a * scale, b), pearson(a, b), rtol=0, atol=1e-12)


def test_pearson_worked_out_on_paper() -> None:
    a = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    b = torch.tensor([[[1.0, 3.0], [2.0, 4.0]]])
    # Deviations (-1.5, -.5, .5, 1.5) and (-1.5, .5, -.5, 1.5): 4 / 5.
    assert pearson(a, b).item() == pytest.approx(0.8, abs=1e-15)


@pytest.mark.parametrize(("shape", "top"), [((8, 8), 0.2), ((5, 9), 0.29), ((3, 4), 0.97), ((2, 1), 0.5)])
def test_top_pixels_ties_and_iou_are_those_found_by_hand(shape: tuple[int, int], top: float) -> None:
    a, b = pairs(2, 800, shape)
    top_a, top_b = (top_pixels(torch.from_numpy(maps), top) for maps in (a, b))
    values = iou(top_a, top_b)
    assert values.dtype == torch.float64
    ties = 0
    for row, (x, y) in enumerate(zip(a, b, strict=True)):
        for mine in (top_a, top_b):
            assert int(mine.mask[row].sum()) == int(top * x.size)
        if np.isnan(x).any() or np.isnan(y).any():
            assert values[row].isnan()
            continue
        (set_a, tied_a), (set_b, tied_b) = top_by_hand(x, top), top_by_hand(y, top)
        assert set(top_a.mask[row].nonzero().ravel().tolist()) == set_a
        assert set(top_b.mask[row].nonzero().ravel().tolist()) == set_b
        assert (bool(top_a.tied[row]), bool(top_b.tied[row])) == (tied_a, tied_b)
        assert values[row].item() == pytest.approx(len(set_a & set_b) / len(set_a | set_b), abs=1e-6)
        ties += tied_a
    assert 100 < ties < len(a) - 100


def test_ties_go_to_the_lower_pixel_index_at_the_size_of_real_maps() -> None:
    maps = torch.tensor([0.0, -0.0, 1.0, 0.0]).repeat(256).view(1, 32, 32)
    chosen = top_pixels(maps, 0.5).mask[0].nonzero().ravel().tolist()
    ones = list(range(2, 1024, 4))
    zeros = [index for index in range(1024) if index % 4 != 2][: 512 - 256]
    assert chosen == sorted(ones + zeros)


@pytest.mark.parametrize(
    ("top", "pixels", "count"), [(0.2, 1024, 204), (0.29, 100, 28), (0.5, 3, 1), (0.999999, 1024, 1023)]
)
def test_exactly_that_many_pixels(top: float, pixels: int, count: int) -> None:
    maps = torch.rand(4, 1, pixels)
    assert top_pixels(maps, top).mask.sum(dim=1).tolist() == [count] * 4


def test_the_largest_share_below_one_leaves_a_pixel_outside() -> None:
    below_one = float(np.nextafter(1, 0))
    for pixels in range(2, 3000):
        assert count_top(below_one, pixels) == pixels - 1


@pytest.mark.parametrize("top", [0, 1, -0.2, 1.5, float("nan"), float("inf")])
def test_a_share_outside_0_to_1_is_refused(top: float) -> None:
    with pytest.raises(UsageError, match=r"--top .* between 0 and 1"):
        check_top(top)
    with pytest.raises(UsageError, match="between 0 and 1"):
        top_pixels(torch.rand(1, 4, 4), top)


@pytest.mark.parametrize("pixels", [7, 16, 1024, 40 * 48, 224 * 224])
def test_a_share_below_one_pixel_is_refused_and_the_advice_works(pixels: int) -> None:
    with pytest.raises(UsageError, match="leaves no pixel") as refused:
        count_top(0.9 / pixels, pixels)
    advice = float(str(refused.value).rsplit(" ", 1)[1])
    assert count_top(advice, pixels) == 1


def test_maps_of_other_number_types_are_compared_alike() -> None:
    maps = torch.randint(0, 9, (2, 6, 5, 5), generator=torch.Generator().manual_seed(3))
    values = pearson(maps[0], maps[1])
    overlaps = iou(*(top_pixels(each) for each in maps))
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.uint8):
        a, b = maps.to(dtype)
        assert torch.equal(pearson(a, b), values)
        assert torch.equal(iou(top_pixels(a), top_pixels(b)), overlaps)


def test_a_row_of_many_is_the_row_alone_and_its_neighbours_do_not_matter() -> None:
    a, b = (torch.from_numpy(maps) for maps in pairs(4, 300, (6, 6)))
    values, overlaps = pearson(a, b), iou(top_pixels(a), top_pixels(b))
    for row in range(0, len(a), 7):
        alone = slice(row, row + 1)
        torch.testing.assert_close(
            pearson(a[alone], b[alone]), values[alone], rtol=0, atol=1e-12, equal_nan=True
        )
        torch.testing.assert_close(
            iou(top_pixels(a[alone]), top_pixels(b[alone])), overlaps[alone], rtol=0, atol=0, equal_nan=True
        )


@pytest.mark.parametrize("top", [0.05, 0.2, 0.5])
def test_two_random_maps_agree_as_much_as_chance_says(top: float) -> None:
    a, b = torch.rand(2, 4000, 20, 20, generator=torch.Generator().manual_seed(5))
    assert pearson(a, b).mean().item() == pytest.approx(PEARSON.chance(top), abs=0.005)
    assert iou(top_pixels(a, top), top_pixels(b, top)).mean().item() == pytest.approx(
        IOU.chance(top), abs=0.005
    )


def test_titles_say_the_share() -> None:
    assert [each.title(0.2) for each in STATISTICS] == ["Pearson", "IoU@20%"]
    assert IOU.title(0.29) == "IoU@29%"
    assert IOU.title(0.005) == "IoU@0.5%"
