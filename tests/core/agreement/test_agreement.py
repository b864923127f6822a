from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from itertools import combinations, product

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance
from skimage.metrics import structural_similarity
from torch import Tensor

from xaicmp.core.agreement.registry import (
    DEFAULT_STATISTICS,
    IOU,
    STATISTICS,
    agreement,
    get_statistics,
    iou,
    pearson,
)
from xaicmp.core.agreement.statistic import Prepared, Statistic, aligned, register, take, unknown, zero
from xaicmp.core.agreement.top_pixels import check_top, count_top, top_pixels, whole_pixels
from xaicmp.errors import UsageError

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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", [each.name for each in STATISTICS.values() if not each.uses_top])
def test_a_map_of_one_pixel_is_undefined_without_a_warning(name: str) -> None:
    assert agreement(name, torch.rand(3, 1, 1), torch.rand(3, 1, 1)).isnan().all()


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_pearson_does_not_leave_the_range_of_float64(scale: float) -> None:
    a, b = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(pearson(a * scale, b), pearson(a, b), rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    exponents=st.tuples(st.integers(-307, 307), st.integers(-307, 307)),
    offset=st.sampled_from([0.0, 0.5, -3.0, 100.0]),
)
def test_no_statistic_depends_on_the_scale_of_its_maps(
    seed: int, exponents: tuple[int, int], offset: float
) -> None:
    # Float32 values stay apart in float64, whatever they are multiplied by.
    a, b = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(seed)).double()
    b = a + b
    a, b = ((each + offset) / 200 for each in (a, b))  # below 1, so that 1e307 times each is in the range
    a, b = a.float().double(), b.float().double()
    if offset < 0:
        a[:, 0, 0] = b[:, 3, 3] = 0.25
    scaled_a, scaled_b = (each * 10.0**power for each, power in zip((a, b), exponents, strict=True))
    for name in STATISTICS:
        torch.testing.assert_close(
            agreement(name, scaled_a, scaled_b), agreement(name, a, b), rtol=0, atol=1e-7, equal_nan=True
        )


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("scale", [1e-307, 1e-305, 1e-200, 1e200, 1e305, 1e307, np.finfo(float).max])
def test_maps_at_the_ends_of_the_range_have_the_values_of_their_reference(name: str, scale: float) -> None:
    a, b = np.random.default_rng(0).uniform(-1, 1, (2, 5, 12, 12))
    b = (a + b) / 2
    found = agreement(name, torch.from_numpy(a * scale), torch.from_numpy(b * scale))
    expected = [REFERENCES[name](x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_a_small_positive_part_beside_a_large_negative_one_keeps_its_shares() -> None:
    a, b = 1e-250 * np.abs(np.random.default_rng(1).normal(size=(2, 4, 6, 6)))
    a[:, 0, 0] = b[:, 0, 0] = 0
    expected = [overlap_by_hand(x, y) for x, y in zip(a, b, strict=True)]
    a[:, 0, 0] = b[:, 0, 0] = -1e200
    found = agreement("mass-overlap", torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


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
            assert int(mine.values[0][row].sum()) == int(top * x.size)
        if np.isnan(x).any() or np.isnan(y).any():
            assert values[row].isnan()
            continue
        (set_a, tied_a), (set_b, tied_b) = top_by_hand(x, top), top_by_hand(y, top)
        assert set(top_a.values[0][row].nonzero().ravel().tolist()) == set_a
        assert set(top_b.values[0][row].nonzero().ravel().tolist()) == set_b
        assert (bool(top_a.tied[row]), bool(top_b.tied[row])) == (tied_a, tied_b)
        constant = any(len(set(each.ravel().tolist())) == 1 for each in (x, y))
        expected = math.nan if constant else len(set_a & set_b) / len(set_a | set_b)
        assert values[row].item() == pytest.approx(expected, abs=1e-6, nan_ok=True)
        ties += tied_a
    assert 100 < ties < len(a) - 100


def test_ties_go_to_the_lower_pixel_index_at_the_size_of_real_maps() -> None:
    maps = torch.tensor([0.0, -0.0, 1.0, 0.0]).repeat(256).view(1, 32, 32)
    chosen = top_pixels(maps, 0.5).values[0][0].nonzero().ravel().tolist()
    ones = list(range(2, 1024, 4))
    zeros = [index for index in range(1024) if index % 4 != 2][: 512 - 256]
    assert chosen == sorted(ones + zeros)


@pytest.mark.parametrize(
    ("top", "pixels", "count"), [(0.2, 1024, 204), (0.29, 100, 29), (0.5, 3, 1), (0.999999, 1024, 1023)]
)
def test_exactly_that_many_pixels(top: float, pixels: int, count: int) -> None:
    maps = torch.rand(4, 1, pixels)
    assert top_pixels(maps, top).values[0].sum(dim=1).tolist() == [count] * 4


def test_a_share_of_pixels_is_exact_for_every_percent_of_every_size() -> None:
    for percent in range(1, 100):
        shares = (
            percent / 100,
            float(f"0.{percent:02d}"),
            np.float64(percent / 100),
            np.float32(percent / 100),
        )
        for pixels in (*range(1, 4097), 224 * 224, 10**9):
            assert whole_pixels(shares[pixels % 4], pixels) == percent * pixels // 100


@given(digits=st.integers(1, 10**6 - 1), pixels=st.integers(1, 10**7))
def test_a_share_with_six_digits_is_exact_too(digits: int, pixels: int) -> None:
    assert whole_pixels(float(f"0.{digits:06d}"), pixels) == digits * pixels // 10**6


def test_the_top_29_percent_of_100_pixels_are_29_wherever_they_are_counted() -> None:
    a, b = torch.rand(2, 1, 10, 10, generator=torch.Generator().manual_seed(0))
    tops = [set(each.flatten().argsort(descending=True)[:29].tolist()) for each in (a, b)]
    expected = len(tops[0] & tops[1]) / len(tops[0] | tops[1])
    assert agreement("iou", a, b, 0.29).item() == pytest.approx(expected, abs=1e-15)
    ways = scipy.stats.hypergeom(100, 29, 29).pmf(both := np.arange(30))
    assert IOU.chance(0.29, 100) == pytest.approx((ways * both / (58 - both)).sum(), abs=1e-12)
    rbo = STATISTICS["rbo"]
    assert rbo.prepare(a, 0.29).values[0].unique().tolist() == list(range(30))
    assert rbo.chance(0.29, 100) == pytest.approx(29 * (1 - (28 / 29) ** 29) / 100, abs=1e-12)


def test_the_largest_share_below_one_leaves_a_pixel_outside() -> None:
    below_one = float(np.nextafter(1, 0))
    for pixels in range(2, 3000):
        assert count_top(below_one, pixels) == pixels - 1


@pytest.mark.parametrize("top", [0, 1, -0.2, 1.5, float("nan"), float("inf")])
def test_a_share_outside_0_to_1_is_refused(top: float) -> None:
    with pytest.raises(UsageError, match=r"top .* between 0 and 1"):
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


# Every statistic.

Reference = Callable[[np.ndarray, np.ndarray], float]


def rescale(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min())


def ssim_by_skimage(a: np.ndarray, b: np.ndarray) -> float:
    return structural_similarity(
        rescale(a), rescale(b), gaussian_weights=True, use_sample_covariance=False, data_range=1
    )


def places(values: np.ndarray, top: float = 0.2) -> list[int]:
    """The top pixels from the highest down, ties by the lower index."""
    flat = values.ravel().tolist()
    return sorted(range(len(flat)), key=lambda index: (-flat[index], index))[: int(top * len(flat))]


def rbo_of_lists(a: Sequence[int], b: Sequence[int], p: float) -> float:
    """Equation 23 of Webber et al. as it stands there, in terms of the overlaps X_d."""
    k = len(a)
    overlaps = [len(set(a[:d]) & set(b[:d])) for d in range(1, k + 1)]
    series = sum(overlap / d * p**d for d, overlap in enumerate(overlaps, 1))
    return overlaps[-1] / k * p**k + (1 - p) / p * series


def rbo_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    k = int(0.2 * a.size)
    return rbo_of_lists(places(a), places(b), 1 - 1 / k)


def iou_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    top_a, top_b = set(places(a)), set(places(b))
    return len(top_a & top_b) / len(top_a | top_b)


def shares(values: np.ndarray) -> list[float]:
    positive = [max(float(value), 0.0) for value in values.ravel()]
    return [value / math.fsum(positive) for value in positive]


def overlap_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    return math.fsum(map(min, shares(a), shares(b)))


def sign_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    same = [(x > 0) == (y > 0) and (x < 0) == (y < 0) for x, y in zip(a.ravel(), b.ravel(), strict=True)]
    return sum(same) / len(same)


def flat(reference: Callable[[np.ndarray, np.ndarray], float]) -> Reference:
    return lambda a, b: reference(a.ravel(), b.ravel())


def krishna_by_hand(ranks: bool = False, signs: bool = False) -> Reference:
    """As the paper has it: features in the top k of both by magnitude, with the same rank, sign or both, of k."""

    def reference(a: np.ndarray, b: np.ndarray) -> float:
        (top_a, top_b), x, y = (places(np.abs(each)) for each in (a, b)), a.ravel(), b.ravel()
        common = [s for s in top_a if s in top_b]
        if ranks:
            common = [s for s in common if top_a.index(s) == top_b.index(s)]
        if signs:
            common = [s for s in common if (x[s] > 0, x[s] < 0) == (y[s] > 0, y[s] < 0)]
        return len(common) / len(top_a)

    return reference


def pairwise_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    """The relative ranking of every two pixels."""
    one, other = (np.sign(np.subtract.outer(each, each)) for each in (np.abs(a.ravel()), np.abs(b.ravel())))
    return float((one == other)[np.triu_indices(a.size, 1)].mean())


REFERENCES: dict[str, Reference] = {
    "pearson": flat(lambda a, b: scipy.stats.pearsonr(a, b).statistic),
    "spearman": flat(lambda a, b: scipy.stats.spearmanr(a, b).statistic),
    "kendall": flat(lambda a, b: scipy.stats.kendalltau(a, b).statistic),
    "cosine": flat(lambda a, b: 1 - distance.cosine(a, b)),
    "ssim": ssim_by_skimage,
    "iou": iou_by_hand,
    "rbo": rbo_by_hand,
    "mass-overlap": overlap_by_hand,
    "jensen-shannon": lambda a, b: distance.jensenshannon(shares(a), shares(b), base=2),
    "sign": sign_by_hand,
    "feature-agreement": krishna_by_hand(),
    "rank-agreement": krishna_by_hand(ranks=True),
    "sign-agreement": krishna_by_hand(signs=True),
    "signed-rank-agreement": krishna_by_hand(ranks=True, signs=True),
    "pairwise-rank-agreement": pairwise_by_hand,
}
OF_KRISHNA = [name for name in REFERENCES if name.endswith("agreement")]
COUNTS = ["iou", "rbo", "sign", "mass-overlap", *OF_KRISHNA]


def is_defined(name: str, values: np.ndarray) -> bool:
    """Whether a map has the statistic at all, from its values one by one."""
    finite, distinct = np.isfinite(values).all(), len(set(values.ravel().tolist())) > 1
    varies = len(set(np.abs(values).ravel().tolist())) > 1
    both_signs = (values > 0).any() and (values < 0).any()
    if np.isnan(values).any():
        return False
    return {
        "pearson": finite and distinct,
        "spearman": distinct,
        "kendall": distinct,
        "cosine": finite and distinct,
        "ssim": finite and distinct and min(values.shape) >= 11,
        "iou": distinct,
        "rbo": distinct,
        "mass-overlap": finite and distinct and (values > 0).any(),
        "jensen-shannon": finite and distinct and (values > 0).any(),
        "sign": both_signs,
        **dict.fromkeys(OF_KRISHNA, varies),
    }[name]


@pytest.fixture(scope="module")
def every_kind() -> tuple[np.ndarray, np.ndarray]:
    """Every kind of map with every kind."""
    return pairs(6, 330, (12, 13))


@pytest.mark.parametrize("name", STATISTICS)
def test_each_statistic_is_its_reference_and_undefined_where_that_is(
    name: str, every_kind: tuple[np.ndarray, np.ndarray]
) -> None:
    a, b = every_kind
    values = agreement(name, torch.from_numpy(a), torch.from_numpy(b)).numpy()
    assert values.dtype == np.float64
    statistic, defined = STATISTICS[name], 0
    undefined = statistic.prepare(torch.from_numpy(a), 0.2).undefined.tolist()
    assert undefined == [not is_defined(name, x) for x in a]
    for x, y, value in zip(a.astype(float), b.astype(float), values, strict=True):
        if not (is_defined(name, x) and is_defined(name, y)):
            assert np.isnan(value)
            continue
        defined += 1
        assert statistic.low <= value <= statistic.high
        with np.errstate(all="ignore"):
            # Near 0 the distance is the root of what rounding leaves; scipy squares what float64 cannot hold.
            scale = 1 if name in COUNTS else max(np.abs(x[np.isfinite(x)]).max(), 1e-300)
            expected = REFERENCES[name](x / scale, y / (np.abs(y[np.isfinite(y)]).max() if scale != 1 else 1))
        assert value == pytest.approx(expected, abs=1e-6 if name in ("pearson", "jensen-shannon") else 1e-9)
    assert defined > len(a) / 4


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.filterwarnings("error")
def test_each_statistic_on_smooth_maps_at_the_size_of_real_ones(name: str) -> None:
    rng = np.random.default_rng(7)
    noise = rng.normal(size=(2, 4, 35, 40))
    a, b = scipy.ndimage.gaussian_filter(noise, (0, 0, 2, 2)) + 0.02 * rng.normal(size=noise.shape)
    b[:2] = 0.5 * a[:2] + 0.5 * b[:2]
    values = agreement(name, torch.from_numpy(a), torch.from_numpy(b))
    expected = [REFERENCES[name](x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    value=st.floats(allow_nan=True, allow_infinity=True),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    sides=st.tuples(st.integers(2, 14), st.integers(2, 14)),
    top=st.sampled_from([0.25, 0.5, 0.9]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_constant_map_has_no_statistic_with_any_other(
    value: float, dtype: torch.dtype, sides: tuple[int, int], top: float, seed: int
) -> None:
    other = torch.randn(3, *sides, generator=torch.Generator().manual_seed(seed)).to(dtype)
    other[1] = other[1].sort(dim=0).values
    constant = torch.full(other.shape, value, dtype=torch.float64).to(dtype)
    other[2] = constant[2]
    for name in STATISTICS:
        assert agreement(name, constant, other, top).isnan().all(), name
        assert agreement(name, other, constant, top).isnan().all(), name


def test_zeros_of_either_sign_are_one_value() -> None:
    zeros = torch.tensor([0.0, -0.0]).repeat(72).view(1, 12, 12)
    for name in STATISTICS:
        assert agreement(name, zeros, torch.randn(1, 12, 12)).isnan().all(), name


def test_rbo_worked_out_on_paper() -> None:
    # The top 3 of 15 pixels in order: 0, 1, 2 and 1, 3, 0. Common among the first 1, 2 and 3: none, one, two.
    a, b = torch.zeros(2, 1, 3, 5)
    a.view(-1)[[0, 1, 2]] = torch.tensor([3.0, 2.0, 1.0])
    b.view(-1)[[1, 3, 0]] = torch.tensor([3.0, 2.0, 1.0])
    # p = 2/3: (1 - p) (0 + 1/2 p + 2/3 p^2) + 2/3 p^3 = (1/3 + 8/27) / 3 + 16/81.
    assert agreement("rbo", a, b).item() == pytest.approx(33 / 81, abs=1e-15)
    assert STATISTICS["rbo"].prepare(a, 0.2).tied.tolist() == [False]
    assert STATISTICS["rbo"].prepare(a, 0.3).tied.tolist() == [True]


def test_rbo_of_one_top_pixel_is_whether_it_is_the_same() -> None:
    a = torch.eye(5).view(5, 1, 5)
    b = a[[0, 2, 2, 1, 4]]
    assert agreement("rbo", a, b).tolist() == [1, 0, 1, 0, 1]


def test_the_first_k_ranks_have_86_percent_of_the_weight_of_rbo() -> None:
    for k in (10, 204, 5000):
        p = 1 - 1 / k
        # Equation 21 of Webber et al.
        tail = math.log(1 / (1 - p)) - sum(p**i / i for i in range(1, k))
        assert 1 - p ** (k - 1) + (1 - p) / p * k * tail == pytest.approx(0.86, abs=0.01)


def test_kendall_mass_overlap_distance_and_sign_worked_out_on_paper() -> None:
    a = torch.tensor([[[1.0, -2.0], [3.0, 0.0]]])
    b = torch.tensor([[[1.0, 1.0], [2.0, -4.0]]])
    # Of six pairs of pixels one is discordant, (1, -2) and (1, 1) are tied in b: (4 - 1) / sqrt(6 * 5).
    assert agreement("kendall", a, b).item() == pytest.approx(3 / math.sqrt(30), abs=1e-15)
    # Shares (1/4, 0, 3/4, 0) and (1/4, 1/4, 1/2, 0).
    assert agreement("mass-overlap", a, b).item() == pytest.approx(3 / 4, abs=1e-15)
    # Half-way lies (1/4, 1/8, 5/8, 0).
    mixed = 1 / 4 * 2 + 1 / 8 * 3 + 5 / 8 * math.log2(8 / 5)
    own = (1 / 4 * 2 + 3 / 4 * math.log2(4 / 3) + 1.5) / 2
    assert agreement("jensen-shannon", a, b).item() == pytest.approx(math.sqrt(mixed - own), abs=1e-14)
    assert agreement("sign", a, b).item() == 2 / 4


def test_the_measures_of_krishna_worked_out_on_paper() -> None:
    # By magnitude the top 3 of 6 are 0, 1, 2 and 0, 2, 1: all in common, one at its rank, the signs of 0 and 2 the same.
    a = torch.tensor([[[9.0, -8.0, 7.0], [1.0, 0.0, 0.0]]])
    b = torch.tensor([[[5.0, 3.0, 4.0], [0.0, -1.0, 0.0]]])
    found = {name: agreement(name, a, b, 0.5).item() for name in OF_KRISHNA}
    # Of 15 pairs, (1, 2), (3, 4), (3, 5) and (4, 5) are in another order, or equal in one map alone.
    shares = [1, 1 / 3, 2 / 3, 1 / 3, 11 / 15]
    assert found == pytest.approx(dict(zip(OF_KRISHNA, shares, strict=True)), abs=1e-15)


def test_signs_add_nothing_to_maps_without_negative_values() -> None:
    a, b = torch.rand(2, 20, 8, 8, generator=torch.Generator().manual_seed(6))
    for signed, unsigned in (("sign", "feature"), ("signed-rank", "rank")):
        assert torch.equal(agreement(f"{signed}-agreement", a, b), agreement(f"{unsigned}-agreement", a, b))
    f = agreement("feature-agreement", a, b)
    torch.testing.assert_close(f / (2 - f), agreement("iou", a, b), rtol=0, atol=1e-15)


def test_zero_has_a_sign_of_its_own() -> None:
    a = torch.tensor([[[1.0, -1.0, 0.0, 0.0, 0.0]]])
    b = torch.tensor([[[1.0, -1.0, 0.0, 2.0, -2.0]]])
    assert agreement("sign", a, b).item() == pytest.approx(3 / 5)


def test_maps_without_common_mass_are_as_far_apart_as_can_be() -> None:
    a, b = torch.tensor([[[1.0, 2.0, 0.0, -1.0]]]), torch.tensor([[[-3.0, 0.0, 1.0, 4.0]]])
    assert agreement("mass-overlap", a, b).item() == 0
    assert agreement("jensen-shannon", a, b).item() == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("name", STATISTICS)
def test_a_map_agrees_with_itself_perfectly(name: str) -> None:
    maps = torch.randn(20, 12, 12, generator=torch.Generator().manual_seed(1))
    statistic = STATISTICS[name]
    perfect = statistic.high if statistic.higher else statistic.low
    torch.testing.assert_close(
        agreement(name, maps, maps), torch.full((20,), float(perfect)).double(), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("name", STATISTICS)
def test_more_noise_is_less_agreement_in_the_declared_direction(name: str) -> None:
    maps, noise = torch.randn(2, 50, 16, 16, generator=torch.Generator().manual_seed(2))
    means = [agreement(name, maps, maps + scale * noise).mean().item() for scale in (0.1, 0.5, 2)]
    assert means == sorted(means, reverse=STATISTICS[name].higher)


@pytest.mark.parametrize("name", STATISTICS)
def test_each_statistic_is_symmetric_and_does_not_change_its_maps(
    name: str, every_kind: tuple[np.ndarray, np.ndarray]
) -> None:
    a, b = (torch.from_numpy(maps[:250].copy()) for maps in every_kind)
    before = a.clone(), b.clone()
    torch.testing.assert_close(
        agreement(name, a, b), agreement(name, b, a), rtol=0, atol=1e-15, equal_nan=True
    )
    torch.testing.assert_close((a, b), before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", STATISTICS)
def test_rows_taken_are_as_if_they_alone_had_been_prepared(
    name: str, every_kind: tuple[np.ndarray, np.ndarray]
) -> None:
    a, b = (torch.from_numpy(maps) for maps in every_kind)
    statistic = STATISTICS[name]
    order = torch.randperm(len(a), generator=torch.Generator().manual_seed(3))
    prepared_a, prepared_b = statistic.prepare(a, 0.2), statistic.prepare(b, 0.2)
    for rows in (order, order[:7], order[[4, 4, 4]], slice(3, 5), order[:0]):
        taken, alone = take(prepared_b, rows), statistic.prepare(b[rows], 0.2)
        assert torch.equal(taken.undefined, alone.undefined)
        assert torch.equal(taken.tied, alone.tied)
        torch.testing.assert_close(
            statistic.compare(take(prepared_a, rows), taken),
            agreement(name, a[rows], b[rows]),
            rtol=0,
            atol=1e-12,
            equal_nan=True,
        )


# What a statistic does not see: how the pixels are arranged (but for SSIM), and these changes of one map.

MONOTONE: dict[str, Callable[[Tensor], Tensor]] = {
    "scaled": lambda maps: 3.7 * maps,
    "moved": lambda maps: maps + 1.25,
    "bent": lambda maps: maps**3,
    "turned round": lambda maps: -maps,
}
INVARIANT: dict[str, set[str]] = {
    "pearson": {"scaled", "moved"},
    "spearman": {"scaled", "moved", "bent"},
    "kendall": {"scaled", "moved", "bent"},
    "cosine": {"scaled"},
    "ssim": {"scaled", "moved"},
    "iou": {"scaled", "moved", "bent"},
    "rbo": {"scaled", "moved", "bent"},
    "mass-overlap": {"scaled"},
    "jensen-shannon": {"scaled"},
    "sign": {"scaled", "bent"},
    "feature-agreement": {"scaled", "bent", "turned round"},
    "rank-agreement": {"scaled", "bent", "turned round"},
    "sign-agreement": {"scaled", "bent"},
    "signed-rank-agreement": {"scaled", "bent"},
    "pairwise-rank-agreement": {"scaled", "bent", "turned round"},
}


@pytest.mark.parametrize(("name", "change"), list(product(STATISTICS, MONOTONE)))
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sides=st.tuples(st.integers(11, 16), st.integers(11, 16)))
def test_what_each_statistic_does_not_see(name: str, change: str, seed: int, sides: tuple[int, int]) -> None:
    # Multiples of 1/8 stay distinct or equal, whatever is done to them.
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randint(-40, 41, (2, 3, *sides), generator=generator).double() / 8
    b = torch.where(torch.rand(b.shape, generator=generator) < 0.1, b, a)
    before, after = agreement(name, a, b), agreement(name, MONOTONE[change](a), b)
    assert torch.allclose(before, after, rtol=0, atol=1e-9) == (change in INVARIANT[name])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_only_ssim_sees_where_the_pixels_are(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 2, 12, 12, generator=generator)
    b += a
    order = torch.randperm(144, generator=generator)
    moved_a, moved_b = (maps.flatten(1)[:, order].view(2, 12, 12) for maps in (a, b))
    for name in STATISTICS:
        same = torch.allclose(agreement(name, a, b), agreement(name, moved_a, moved_b), rtol=0, atol=1e-9)
        assert same == (name != "ssim"), name


def test_correlations_of_a_map_turned_round_are_negative() -> None:
    a, b = torch.randn(2, 10, 8, 8, generator=torch.Generator().manual_seed(4))
    for name in ("pearson", "spearman", "kendall", "cosine"):
        torch.testing.assert_close(agreement(name, -a, b), -agreement(name, a, b), rtol=0, atol=1e-12)


def test_maps_too_small_for_the_window_have_no_ssim() -> None:
    for height, width in ((10, 30), (30, 10), (4, 4), (1, 1)):
        assert agreement("ssim", *torch.rand(2, 3, height, width)).isnan().all()
        assert STATISTICS["ssim"].prepare(torch.rand(3, height, width), 0.2).undefined.all()
    assert not agreement("ssim", *torch.rand(2, 3, 11, 11)).isnan().any()


def test_a_statistic_at_a_share_of_its_own_takes_no_notice_of_the_one_asked_for() -> None:
    a, b = (torch.from_numpy(maps) for maps in pairs(8, 300, (8, 8)))
    pearson, whole, half, few, *ranked = get_statistics(["pearson", "iou", "rbo"], [0.5, 0.07])
    assert [each.name for each in (pearson, whole, half, few)] == ["pearson", "iou", "iou@50%", "iou@7%"]
    assert [each.name for each in ranked] == ["rbo", "rbo@50%", "rbo@7%"]
    assert [each.top for each in (pearson, whole, half, few)] == [None, None, 0.5, 0.07]
    assert [each.title(0.2) for each in (whole, half, few)] == ["IoU@20%", "IoU@50%", "IoU@7%"]
    for name, statistics in (("iou", (half, few)), ("rbo", ranked[1:])):
        for top, statistic in zip((0.5, 0.07), statistics, strict=True):
            found = statistic.compare(statistic.prepare(a, 0.2), statistic.prepare(b, 0.2))
            torch.testing.assert_close(found, agreement(name, a, b, top), rtol=0, atol=0, equal_nan=True)
            assert statistic.chance(0.2, 64) == STATISTICS[name].chance(top, 64)
    assert [each.name for each in get_statistics(["iou"])] == ["iou"]


def test_rbo_refuses_a_share_below_one_pixel() -> None:
    maps = torch.rand(2, 4, 4)
    with pytest.raises(UsageError, match="leaves no pixel"):
        agreement("rbo", maps, maps, 0.01)


# How they are read.


@pytest.mark.parametrize("top", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("sides", [(4, 4), (20, 20), (3, 5)])
def test_two_random_maps_agree_as_much_as_chance_says(top: float, sides: tuple[int, int]) -> None:
    pixels = sides[0] * sides[1]
    a, b = torch.rand(2, 2000, *sides, generator=torch.Generator().manual_seed(5))
    for name, statistic in STATISTICS.items():
        if int(top * pixels) == 0 and statistic.uses_top and statistic.chance is not unknown:
            with pytest.raises(UsageError, match="leaves no pixel"):
                statistic.chance(top, pixels)
        elif (chance := statistic.chance(top, pixels)) is not None:
            rows = slice(300 if name == "kendall" else None)
            values = agreement(name, a[rows], b[rows], top)
            error = values.std().item() / math.sqrt(len(values))
            assert values.mean().item() == pytest.approx(chance, abs=4 * error), name
            assert error < 0.02


@pytest.mark.parametrize("top", [0.05, 0.2, 0.5, 0.9])
def test_chance_on_large_maps_is_the_limit(top: float) -> None:
    assert IOU.chance(top, 10**6) == pytest.approx(top / (2 - top), abs=1e-5)
    assert STATISTICS["rbo"].chance(top, 10**6) == pytest.approx(top * (1 - math.exp(-1)), abs=1e-5)


def test_chance_of_iou_is_the_mean_over_all_choices_of_top_pixels() -> None:
    for pixels, top in ((5, 0.7), (7, 0.3), (8, 0.5), (6, 0.99)):
        sets = [set(chosen) for chosen in combinations(range(pixels), int(top * pixels))]
        mean = sum(len(sets[0] & other) / len(sets[0] | other) for other in sets) / len(sets)
        assert IOU.chance(top, pixels) == pytest.approx(mean, abs=1e-12)


def test_names_titles_and_ranges() -> None:
    assert list(STATISTICS) == list(REFERENCES)
    assert [each.name for each in STATISTICS.values()] == list(STATISTICS)
    assert len({each.title(0.2) for each in STATISTICS.values()}) == len(STATISTICS)
    assert [each.name for each in STATISTICS.values() if not each.higher] == ["jensen-shannon"]
    assert [each.name for each in STATISTICS.values() if each.uses_top] == [
        "iou",
        "rbo",
        *OF_KRISHNA[:4],
    ]
    for each in STATISTICS.values():
        assert (each.title(0.2) != each.title(0.3)) == each.uses_top
        assert each.source
    assert [each.title(0.2) for each in get_statistics(DEFAULT_STATISTICS)] == ["Pearson", "IoU@20%"]
    assert IOU.title(0.29) == "IoU@29%"
    assert IOU.title(0.005) == "IoU@0.5%"


def test_statistics_come_in_the_order_asked_for() -> None:
    assert [each.name for each in get_statistics(["ssim", "pearson"])] == ["ssim", "pearson"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "names none; choose from pearson, .*sign"),
        (["pearsn"], "unknown statistic 'pearsn'; choose from pearson"),
        (["iou", "ssim", "iou"], "'iou' is named twice"),
    ],
)
def test_unknown_repeated_or_no_names_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        get_statistics(names)


# What a caller gives.


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((3, 8, 8), (1, 8, 8), "maps_a and maps_b hold 3 and 1 maps; give one of each per image"),
        ((8, 8), (2, 8, 8), "maps_a and maps_b hold 1 and 2 maps; give one of each per image"),
        (
            (2, 8, 8),
            (2, 4, 16),
            "maps_a is 8 x 8 pixels and maps_b 4 x 16; resize one to the size of the other",
        ),
        (
            (64,),
            (64,),
            "maps_a has the shape (64,); give a tensor or an array (N, H, W), or (H, W) for one map",
        ),
        (
            (2, 8, 8),
            (2, 1, 8, 8),
            "maps_b has the shape (2, 1, 8, 8); give a tensor or an array (N, H, W), or",
        ),
        ((2, 8, 0), (2, 8, 0), "maps_a has the shape (2, 8, 0); give"),
    ],
)
@pytest.mark.parametrize("name", STATISTICS)
def test_maps_that_cannot_be_compared_are_refused(
    name: str, a: tuple[int, ...], b: tuple[int, ...], message: str
) -> None:
    for make in (torch.rand, lambda shape: np.random.default_rng(0).random(shape)):
        with pytest.raises(UsageError) as refused:
            agreement(name, make(a), make(b))
        assert str(refused.value).startswith(message)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ([[1.0, 2.0]], "maps_a is a list; give a tensor or an array"),
        (np.array([["a", "b"]]), "maps_a holds values of type <U1; give real numbers"),
        (torch.ones(2, 2, dtype=torch.complex64), "maps_a holds values of type torch.complex64; give real"),
    ],
)
def test_what_holds_no_numbers_is_refused(maps: object, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        pearson(maps, torch.rand(1, 2))  # type: ignore[arg-type]
    assert str(refused.value).startswith(message)


def test_sets_of_top_pixels_of_other_numbers_of_maps_or_pixels_are_refused() -> None:
    three = top_pixels(torch.rand(3, 8, 8))
    for other in (torch.rand(1, 8, 8), torch.rand(3, 4, 4)):
        with pytest.raises(UsageError, match="one of each per image"):
            iou(three, top_pixels(other))


@pytest.mark.parametrize("name", STATISTICS)
def test_arrays_of_every_type_and_layout_are_compared_as_tensors_are(name: str) -> None:
    maps = np.random.default_rng(3).integers(-9, 9, (2, 4, 12, 14))
    values = agreement(name, *torch.from_numpy(maps))
    frozen = maps.astype(np.float32)
    frozen.flags.writeable = False
    for each in (maps, frozen, maps.astype(">f8"), maps.astype(np.int16), np.asfortranarray(maps)):
        assert torch.equal(agreement(name, *each), values)
    turned = torch.from_numpy(maps[..., ::-1].copy())
    assert torch.equal(agreement(name, *maps[..., ::-1]), agreement(name, *turned))
    assert torch.equal(agreement(name, maps[0], torch.from_numpy(maps[1]).float().requires_grad_()), values)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16])
def test_tensors_of_every_type_are_compared_as_float64_is(name: str, dtype: torch.dtype) -> None:
    noise = torch.randn(2, 4, 12, 14, generator=torch.Generator().manual_seed(3))
    maps = (noise > 0.5) if dtype == torch.bool else (8 * noise.abs()).to(dtype)
    assert torch.equal(agreement(name, *maps).nan_to_num(9), agreement(name, *maps.double()).nan_to_num(9))


@pytest.mark.parametrize("name", STATISTICS)
def test_one_map_each_gives_one_value(name: str) -> None:
    a, b = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(9))
    found = agreement(name, a[1], b[1].T.contiguous().T)
    assert found.shape == (1,)
    torch.testing.assert_close(found, agreement(name, a, b)[1:2], rtol=0, atol=1e-12)


def test_a_statistic_and_what_it_prepares_are_shown_in_a_line() -> None:
    assert repr(IOU) == "Statistic('iou', 0 to 1)"
    assert repr(IOU.at(0.1)) == "Statistic('iou@10%', 0 to 1)"
    maps = torch.rand(3, 4, 4)
    maps[1] = 0
    assert repr(top_pixels(maps)) == "Prepared(3 maps, 1 undefined, 1 tied)"


def test_a_statistic_is_added_in_one_place() -> None:
    toy = Statistic(
        "sign-of-sum",
        label="Sign of sum",
        low=-1,
        high=1,
        chance=zero,
        source="a test",
        prepare=lambda maps, _: Prepared.of(
            maps.isnan().any(dim=-1).any(dim=-1), maps.sum(dim=(-1, -2)).sign()
        ),
        formula=lambda a, b: (a[0] * b[0]).double(),
    )
    try:
        assert register(toy) is toy
        assert list(STATISTICS)[-1] == "sign-of-sum"
        maps = np.array([[[1.0, 2]], [[-1, -2]], [[np.nan, 1]]])
        assert agreement("sign-of-sum", maps, np.abs(maps)).tolist() == pytest.approx(
            [1, -1, math.nan], nan_ok=True
        )
        with pytest.raises(ValueError, match="'sign-of-sum' already"):
            register(toy)
    finally:
        STATISTICS.pop("sign-of-sum", None)


@pytest.mark.parametrize("width", range(1, 25))
def test_rows_are_filled_up_to_a_whole_cache_line_and_no_further(width: int) -> None:
    values = torch.rand(2, width)
    padded = aligned(values)
    assert padded.shape == (2, 8 * math.ceil(width / 8))
    assert torch.equal(padded[:, :width], values)
    assert not padded[:, width:].any()


@pytest.mark.parametrize(
    ("values", "of_top", "of_ranks"),
    [
        ([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], False, False),
        ([10, 9, 9, 7, 6, 5, 4, 3, 2, 1], False, True),
        ([10, 10, 8, 7, 6, 5, 4, 3, 2, 1], False, True),
        ([10, 9, 8, 6, 6, 5, 4, 3, 2, 1], True, True),
        ([10, 9, 8, 7, 6, 5, 5, 3, 2, 1], False, False),
        ([10, -9, 9, 7, 6, 5, 4, 3, 2, 1], False, True),
    ],
)
def test_ties_count_where_they_may_change_what_the_top_four_of_ten_are(
    values: list[float], of_top: bool, of_ranks: bool
) -> None:
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    maps = torch.tensor(values)[order].float().view(1, 1, 2, 5)
    for name in ("feature", "sign", "rank", "signed-rank"):
        tied = STATISTICS[f"{name}-agreement"].prepare(maps, 0.4).tied
        assert tied.tolist() == [[of_ranks if "rank" in name else of_top]], name
