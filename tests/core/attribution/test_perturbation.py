from __future__ import annotations

import itertools
import math
from typing import Any

import captum.attr
import numpy as np
import pytest
import skimage.transform
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import quick
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from xaicmp.core.attribution import METHODS
from xaicmp.core.attribution.context import Context
from xaicmp.core.attribution.method import Explanation
from xaicmp.core.attribution.superpixels import superpixels
from xaicmp.core.images.cifar10 import MEAN, STD
from xaicmp.errors import UsageError

PERTURBATION = ("occlusion", "feature-ablation", "lime", "kernel-shap", "rise")
RANDOM = ("lime", "kernel-shap", "rise")


class Net(nn.Module):
    """Two convolutions, smooth so that rounding stays rounding; it remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 6, 3, padding=1),
                nn.Tanh(),
                nn.Conv2d(6, 8, 3, stride=2),
                nn.Tanh(),
                nn.AdaptiveAvgPool2d(3),
                nn.Flatten(),
                nn.Linear(72, 5),
            )
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        return self.layers(images)


class Linear(nn.Module):
    """S_t(x) = <w_t, x> + b_t."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.flatten(1).T + torch.arange(len(self.weight))


class Probability(nn.Module):
    """P_0(x) = 1/2 + <w, x>, and P_1 the rest."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, images: Tensor) -> Tensor:
        first = 0.5 + images.flatten(1) @ self.weight.flatten()
        return torch.stack([first, 1 - first], dim=1).log()


def images_of(count: int, *size: int, seed: int = 0) -> Tensor:
    """Nowhere zero, so that what is taken away can be told from what is there."""
    images = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))
    return images + 0.01 * images.sign()


def explain(name: str, model: nn.Module, images: Tensor, targets: Tensor, **context: Any) -> Tensor:
    """Signed: the channels are summed and nothing is dropped."""
    return explanation(name, model, images, targets, **context).maps


def explanation(name: str, model: nn.Module, images: Tensor, targets: Tensor, **context: Any) -> Explanation:
    options = {"samples": context.pop("samples")} if "samples" in context else {}
    chosen = quick([name], **options)[0]
    object.__setattr__(chosen, "reduction", "sum")
    return chosen.explain_in(Context(model, images, targets, mean=MEAN, std=STD, **context))


def close(maps: Tensor, expected: Tensor, share: float = 1e-5) -> None:
    torch.testing.assert_close(maps, expected.to(maps), rtol=0, atol=share * expected.abs().max().item())


def segments(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return superpixels(images * std + mean)


def shown(model: Net, images: Tensor) -> list[Tensor]:
    """What was kept of each image in each of its perturbations, in order: ``(S, H, W)`` an image."""
    masks = torch.cat(model.seen).unflatten(0, (-1, len(images))).transpose(0, 1) / images[:, None]
    assert (masks - masks[:, :, :1]).abs().max() < 1e-5  # the same in all channels
    return list(masks[:, :, 0])


def shown_segments(model: Net, images: Tensor) -> list[np.ndarray]:
    """Which superpixels were there: ``(S, K)`` an image."""
    found = []
    for masks, labels in zip(shown(model, images), segments(images), strict=True):
        present = torch.stack([masks[:, labels == each][:, 0] for each in labels.unique()], dim=1)
        assert torch.equal(present[:, labels], masks)  # all of a superpixel or nothing
        assert set(present.unique().tolist()) <= {0.0, 1.0}
        found.append(present.double().numpy())
    return found


def score(model: nn.Module, image: Tensor, labels: Tensor, present: np.ndarray, target: int) -> np.ndarray:
    """The target's logit of an image of which the superpixels ``present`` ``(S, K)`` are left."""
    with torch.no_grad():
        logits = model(image * torch.from_numpy(present).float()[:, labels][:, None])
    return logits[:, target].double().numpy()


def painted(values: list[np.ndarray], labels: Tensor) -> Tensor:
    return torch.stack([torch.from_numpy(each)[label] for each, label in zip(values, labels, strict=True)])


WINDOWS = {5: (1, 1), 8: (1, 1), 12: (2, 1), 16: (2, 1), 32: (4, 2), 33: (4, 2), 40: (5, 2), 47: (6, 3)}
"""By side: how wide a window is and how far apart they are."""


@pytest.mark.parametrize("size", [(32, 32), (40, 47), (33, 12), (8, 5)])
def test_occlusion_as_in_captum(size: tuple[int, int]) -> None:
    model, images, targets = Net(), images_of(2, *size), torch.tensor([3, 1])
    (height, down), (width, across) = (WINDOWS[side] for side in size)
    maps = explain("occlusion", model, images, targets)
    expected = captum.attr.Occlusion(model).attribute(
        images, (3, height, width), strides=(3, down, across), target=targets, perturbations_per_eval=16
    )
    assert (expected == expected[:, :1]).all()
    close(maps, 3 * expected[:, 0] / 3)


def test_occlusion_of_a_linear_model_is_the_mean_of_what_its_windows_hold() -> None:
    weight, images = images_of(3, 16, 12, seed=1), images_of(2, 16, 12)
    maps = explain("occlusion", Linear(weight), images, torch.tensor([2, 0]))
    for found, evidence in zip(maps, (weight[[2, 0]] * images).sum(dim=1), strict=True):
        for row, column in itertools.product(range(16), range(12)):
            held = [
                evidence[top : top + 2, left : left + 2].sum()
                for top in (row - 1, row)
                for left in (column - 1, column)
                if 0 <= top < 15 and 0 <= left < 11
            ]
            assert found[row, column] == pytest.approx(float(sum(held) / len(held)), abs=1e-5)


def test_feature_ablation_as_in_captum_on_the_same_superpixels() -> None:
    model, images, targets = Net(), images_of(3, 32, 32), torch.tensor([3, 1, 0])
    expected = captum.attr.FeatureAblation(model).attribute(
        images, target=targets, feature_mask=segments(images)[:, None], perturbations_per_eval=8
    )
    close(explain("feature-ablation", model, images, targets), expected[:, 0])


@pytest.mark.parametrize("name", PERTURBATION[1:4])
def test_superpixels_of_a_linear_model_get_what_they_hold(name: str) -> None:
    weight, images, targets = images_of(3, 32, 32, seed=1), images_of(2, 32, 32), torch.tensor([2, 0])
    labels = segments(images)
    evidence = (weight[targets] * images).sum(dim=1)
    held = [np.bincount(labels[i].flatten(), evidence[i].flatten()) for i in range(2)]
    maps = explain(name, Linear(weight), images, targets)
    # LIME's ridge draws everything a little towards zero.
    close(maps, painted(held, labels), 0.05 if name == "lime" else 1e-5)


def ridge(present: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Minimise sum w (y - a - Zb)^2 + |b|^2 over a and b, as one system of equations."""
    similarity = present.sum(1) / np.sqrt(np.maximum(present.sum(1), 1)) / math.sqrt(present.shape[1])
    weights = np.sqrt(np.exp(-((1 - similarity) ** 2) / 0.25**2))  # as in lime_image.py and lime_base.py
    design = np.column_stack([np.ones(len(present)), present])
    penalty = np.diag([0.0, *np.ones(present.shape[1])])
    return np.linalg.solve(design.T @ (weights[:, None] * design) + penalty, design.T @ (weights * scores))[
        1:
    ]


@pytest.mark.parametrize("size", [(32, 32), (12, 20)])
def test_lime_is_the_weighted_ridge_regression_of_what_it_saw(size: tuple[int, int]) -> None:
    model, images, targets = Net(), images_of(2, *size), torch.tensor([3, 1])
    maps = explain("lime", model, images, targets, samples=150)
    seen, labels = shown_segments(model, images), segments(images)
    assert [len(each) for each in seen] == [150, 150]
    assert all((each[0] == 1).all() for each in seen)
    assert all(abs(each[1:].mean() - 0.5) < 0.03 for each in seen)
    assert not (seen[0] == seen[1]).all()
    fitted = [ridge(seen[i], score(model, images[i], labels[i], seen[i], int(targets[i]))) for i in range(2)]
    close(maps, painted(fitted, labels), 1e-4)


def test_lime_as_in_captum() -> None:
    pytest.importorskip("sklearn")
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr._core.lime import Lime, get_exp_kernel_similarity_function

    model, images, targets = Net(), images_of(2, 16, 16), torch.tensor([3, 1])
    maps = explain("lime", model, images, targets, samples=60)
    seen, labels = shown_segments(model, images), segments(images)
    nearness = get_exp_kernel_similarity_function("cosine", kernel_width=0.25)
    for index in range(2):
        draws = iter(torch.from_numpy(seen[index]).float())
        one = Lime(
            model,
            SkLearnRidge(alpha=1.0),
            lambda original, perturbed, present, **_: nearness(torch.ones_like(present), present, None),
            lambda original, draws=draws, **_: next(draws)[None],
        )
        expected = one.attribute(
            images[index : index + 1],
            target=int(targets[index]),
            feature_mask=labels[index : index + 1, None],
            n_samples=60,
        )
        close(maps[index], expected[0, 0], 1e-4)


def shapley(model: nn.Module, image: Tensor, labels: Tensor, target: int) -> np.ndarray:
    """By the definition: the mean over all coalitions of what a player adds, each size weighing the same."""
    players = int(labels.max()) + 1
    every = np.array(list(itertools.product([0.0, 1.0], repeat=players)))
    value = dict(zip(map(tuple, every), score(model, image, labels, every, target), strict=True))
    result = np.zeros(players)
    for coalition, player in itertools.product(every, range(players)):
        if coalition[player] == 0:
            size = int(coalition.sum())
            joined = coalition.copy()
            joined[player] = 1
            chance = math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players)
            result[player] += chance * (value[tuple(joined)] - value[tuple(coalition)])
    return result


@pytest.mark.parametrize(("size", "players"), [((12, 12), 9), ((8, 12), 6), ((4, 8), 2), ((5, 4), 1)])
def test_kernel_shap_with_all_coalitions_is_exact(size: tuple[int, int], players: int) -> None:
    model, images, targets = Net(), images_of(2, *size), torch.tensor([3, 1])
    labels = segments(images)
    assert int(labels.max()) + 1 == players
    found = explanation("kernel-shap", model, images, targets, samples=max(2, 2**players - 2))
    assert sum(map(len, model.seen)) == 2 * 2**players
    expected = [shapley(model, images[i], labels[i], int(targets[i])) for i in range(2)]
    close(found.maps, painted(expected, labels))
    assert found.completeness is not None
    assert found.completeness.abs().max() < 1e-9


def test_kernel_shap_approaches_the_exact_values() -> None:
    model, images, targets = Net(), images_of(2, 12, 12), torch.tensor([3, 1])
    exact = explain("kernel-shap", model, images, targets, samples=510)
    errors = [
        np.mean(
            [
                (explain("kernel-shap", model, images, targets, samples=n, seed=seed) - exact).square().mean()
                for seed in range(10)
            ]
        )
        for n in (30, 120, 480)
    ]
    assert errors[0] > 2.5 * errors[1] > 6 * errors[2]


@pytest.mark.parametrize("samples", [2, 11, 200])
def test_kernel_shap_is_the_constrained_regression_of_what_it_saw(samples: int) -> None:
    model, images, targets = Net(), images_of(2, 16, 16), torch.tensor([3, 1])
    found = explanation("kernel-shap", model, images, targets, samples=samples)
    seen, labels = shown_segments(model, images), segments(images)
    fitted = []
    for index, present in enumerate(seen):
        assert len(present) == 2 + samples // 2 * 2
        scores = score(model, images[index], labels[index], present, int(targets[index]))
        assert (present[0] == 0).all()
        assert (present[1] == 1).all()
        drawn = present[2:]
        assert (drawn.sum(axis=1) % 16 > 0).all()
        half = len(drawn) // 2
        assert (drawn[:half] + drawn[half:] == 1).all()
        # With a Lagrange multiplier for the sum; the least norm where there is a choice.
        system = np.block([[drawn.T @ drawn, np.ones((16, 1))], [np.ones((1, 16)), np.zeros((1, 1))]])
        right = np.append(drawn.T @ (scores[2:] - scores[0]), scores[1] - scores[0])
        fitted.append((np.linalg.pinv(system, rcond=1e-10) @ right)[:16])
        assert fitted[-1].sum() == pytest.approx(scores[1] - scores[0])
    close(found.maps, painted(fitted, labels), 1e-4)
    assert found.completeness is not None
    assert found.completeness.abs().max() < 1e-9


def test_coalitions_come_in_the_sizes_that_the_kernel_weighs() -> None:
    model = Net()
    explain("kernel-shap", model, images_of(2, 16, 16), torch.tensor([3, 1]), samples=4000)
    counted = sum(
        np.bincount(each[2:].sum(axis=1).astype(int), minlength=17)
        for each in shown_segments(model, images_of(2, 16, 16))
    )
    kernel = np.array([0, *(15 / (size * (16 - size)) for size in range(1, 16)), 0])
    np.testing.assert_allclose(counted / counted.sum(), kernel / kernel.sum(), atol=0.01)
    players = sum(each[2:].mean(axis=0) for each in shown_segments(model, images_of(2, 16, 16)))
    np.testing.assert_allclose(players / 2, 0.5, atol=1e-9)  # with its complement, each is in half of them


@pytest.mark.parametrize("size", [(32, 32), (12, 20), (9, 7)])
def test_rise_is_the_mean_of_its_masks_weighted_by_the_probability(size: tuple[int, int]) -> None:
    model, images, targets = Net(), images_of(2, *size), torch.tensor([3, 1])
    maps = explain("rise", model, images, targets, samples=40)
    for index, masks in enumerate(shown(model, images)):
        assert len(masks) == 40
        assert masks.min() >= 0
        assert masks.max() <= 1 + 1e-5
        probability = model(images[index] * masks[:, None]).softmax(dim=1)[:, targets[index]]
        expected = (probability[:, None, None] * masks).sum(dim=0) / (40 * 0.5)
        close(maps[index], expected.detach())


def enlarged(height: int, width: int) -> np.ndarray:
    """What each of the 7 x 7 cells adds to the masks, by skimage: ``(49, rows, columns)``."""
    cells = np.eye(49).reshape(49, 7, 7)
    size = (8 * math.ceil(height / 7), 8 * math.ceil(width / 7))
    return np.stack(
        [skimage.transform.resize(each, size, order=1, mode="edge", anti_aliasing=False) for each in cells]
    )


@pytest.mark.parametrize("size", [(32, 32), (12, 20)])
def test_each_mask_of_rise_is_a_grid_of_zeros_and_ones_enlarged_and_shifted(size: tuple[int, int]) -> None:
    model, images = Net(), images_of(2, *size)
    explain("rise", model, images, torch.tensor([3, 1]), samples=30)
    height, width = size
    basis, cells = enlarged(*size), [math.ceil(side / 7) for side in size]
    masks = torch.cat(shown(model, images)).double().flatten(1).numpy()
    misfit = {}
    for top, left in itertools.product(*(range(cell + 1) for cell in cells)):
        cut = basis[:, top : top + height, left : left + width].reshape(49, -1)
        grids = (masks @ np.linalg.pinv(cut)).round()
        assert set(np.unique(grids[np.abs(grids @ cut - masks).max(axis=1) < 1e-4])) <= {0.0, 1.0}
        misfit[top, left] = np.abs(grids @ cut - masks).max(axis=1)
    assert np.min(list(misfit.values()), axis=0).max() < 1e-4
    shifts = {min(misfit, key=lambda shift: misfit[shift][each]) for each in range(len(masks))}
    assert [{shift[axis] for shift in shifts} for axis in (0, 1)] == [set(range(cell + 1)) for cell in cells]


def test_the_expectation_of_rise_on_a_linear_probability() -> None:
    height = width = 8
    images, evidence = images_of(1, height, width), torch.zeros(height, width)
    evidence[1:4, 1:4], evidence[4:7, 5:8] = 0.05, -0.05
    weight = evidence / images[0] / 3
    basis = enlarged(height, width)
    crops = [
        basis[:, top : top + height, left : left + width].reshape(49, -1)
        for top, left in itertools.product(range(3), repeat=2)
    ]
    # E[m m'] = p^2 + p (1 - p) sum_c a_c a'_c, each shift as likely as the others.
    moment = 0.25 + 0.25 * np.mean([cells.T @ cells for cells in crops], axis=0)
    expected = (0.5 * 0.5 + moment @ evidence.flatten().double().numpy()) / 0.5
    maps = explain("rise", Probability(weight), images, torch.tensor([0]), samples=60_000, batch_size=6000)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(maps[0].flatten(), expected, atol=0.01)


@pytest.mark.parametrize("name", PERTURBATION)
def test_the_same_map_alone_or_among_many_in_any_batch_size_and_place(name: str) -> None:
    model, images, targets = Net(), images_of(5, 12, 12), torch.tensor([3, 1, 0, 4, 2])
    ids = [70, 7, 0, 3, 9]
    options: dict[str, Any] = {"samples": 40} if name in RANDOM else {}
    among = explain(name, model, images, targets, ids=ids, **options)
    for size in (1, 2, 7, 1000):
        close(explain(name, model, images, targets, ids=ids, batch_size=size, **options), among)
        alone = explain(name, model, images[3:4], targets[3:4], ids=ids[3:4], batch_size=size, **options)
        assert alone.shape == (1, 12, 12)
        close(alone[0], among[3])
    order = [4, 2, 0]
    some = explain(name, model, images[order], targets[order], ids=[ids[each] for each in order], **options)
    close(some, among[order])


@pytest.mark.parametrize("name", PERTURBATION)
def test_global_seeds_neither_matter_nor_change(name: str) -> None:
    model, images, targets = Linear(images_of(3, 12, 12)), images_of(2, 12, 12), torch.tensor([2, 1])
    options: dict[str, Any] = {"samples": 40} if name in RANDOM else {}
    torch.manual_seed(1)
    np.random.seed(1)
    maps = explain(name, model, images, targets, **options)
    torch.manual_seed(2)
    np.random.seed(2)
    before = torch.get_rng_state(), repr(np.random.get_state())
    assert torch.equal(explain(name, model, images, targets, **options), maps)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert repr(np.random.get_state()) == before[1]
    other = explain(name, model, images, targets, seed=1, **options)
    assert torch.equal(other, maps) == (name not in RANDOM)


@pytest.mark.parametrize("name", RANDOM)
def test_images_of_other_ids_are_perturbed_otherwise(name: str) -> None:
    image, target = images_of(1, 16, 16).expand(2, -1, -1, -1), torch.tensor([3, 3])
    maps = explain(name, Net(), image, target, samples=20, ids=[5, 6])
    assert (maps[0] - maps[1]).abs().max() > 0.01 * maps.abs().max()


class Largest(TorchDispatchMode):
    """The most elements that any tensor made meanwhile had."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = [result] if isinstance(result, Tensor) else result if isinstance(result, list | tuple) else []
        sizes = [each.untyped_storage().nbytes() // 4 for each in made if isinstance(each, Tensor)]
        self.numel = max([self.numel, *sizes])
        return result


@pytest.mark.parametrize(("count", "batch_size"), [(4, 10), (4, 1), (2, 64)])
@pytest.mark.parametrize("name", PERTURBATION)
def test_passes_and_memory_are_bounded(name: str, count: int, batch_size: int) -> None:
    model, images = Net(), images_of(count, 16, 16)
    options: dict[str, Any] = {"samples": 300} if name in RANDOM else {}
    with Largest() as largest:
        explain(name, model, images, torch.zeros(count, dtype=torch.int64), batch_size=batch_size, **options)
    sizes = [len(each) for each in model.seen]
    most = max(batch_size, count)
    expected = {"occlusion": 226, "feature-ablation": 17, "lime": 300, "kernel-shap": 302, "rise": 300}[name]
    assert sum(sizes) == count * expected
    assert max(sizes) <= most
    assert len(sizes) == math.ceil(count * expected / most)
    # In float32 elements: a pass, with what the model makes of it, and what is known of each sample.
    coarse = 16 * 302 * count * 2
    assert largest.numel <= max(most * 6 * 16 * 16, coarse)
    assert coarse < count * 300 * 3 * 16 * 16 / 4


@pytest.mark.parametrize("name", PERTURBATION)
def test_progress_is_told_after_each_pass(name: str) -> None:
    told: list[tuple[int, int]] = []
    model = Net()
    options: dict[str, Any] = {"samples": 20} if name in RANDOM else {}
    explain(
        name,
        model,
        images_of(2, 12, 12),
        torch.tensor([0, 1]),
        batch_size=8,
        report=lambda done, total: told.append((done, total)),
        **options,
    )
    total = sum(map(len, model.seen))
    assert told == list(zip(np.cumsum([len(each) for each in model.seen]), [total] * len(told), strict=True))
    assert told[-1] == (total, total)


@pytest.mark.parametrize("name", PERTURBATION)
def test_a_model_without_gradients_can_be_explained(name: str) -> None:
    class Steps(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            means = (images.flatten(2).mean(dim=2) * 1000).round()
            return torch.tensor(means.tolist())

    options: dict[str, Any] = {"samples": 20} if name in RANDOM else {}
    maps = explain(name, Steps(), images_of(2, 16, 16), torch.tensor([0, 2]), **options)
    assert maps.flatten(1).std(dim=1).min() > 0


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("samples", [-1, 0, 1])
def test_too_few_samples_are_refused(name: str, samples: int) -> None:
    with pytest.raises(UsageError, match=f"{name}: samples {samples}: needs 2 or more"):
        explain(name, Net(), images_of(2, 16, 16), torch.tensor([0, 2]), samples=samples)


@pytest.mark.parametrize("name", PERTURBATION)
def test_in_bfloat16_the_maps_are_nearly_the_same(name: str) -> None:
    model, images, targets = Net(), images_of(3, 16, 16), torch.tensor([0, 2, 1])
    options: dict[str, Any] = {"samples": 200} if name in RANDOM else {}
    exact = explain(name, model, images, targets, **options)
    with torch.autocast("cpu", torch.bfloat16):
        rough = explain(name, model, images, targets, **options)
    assert rough.dtype == torch.float32
    assert torch.corrcoef(torch.stack([exact.flatten(), rough.flatten()]))[0, 1] > 0.98
    assert not torch.equal(exact, rough)


def test_the_family_is_complete() -> None:
    assert {name for name, each in METHODS.items() if each.family == "perturbation"} == set(PERTURBATION)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_every_superpixel_is_used_whatever_the_size(height: int, width: int, seed: int) -> None:
    pixels = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))
    labels = superpixels(pixels)
    cells = max(1, min(7, height // 4)) * max(1, min(7, width // 4))
    assert labels.shape == (2, height, width)
    assert labels.dtype == torch.int64
    for each in labels:
        assert each.unique().tolist() == list(range(cells))


def test_superpixels_do_not_depend_on_the_batch_or_the_memory_order() -> None:
    pixels = images_of(40, 32, 32).sigmoid()
    labels = superpixels(pixels)
    assert not torch.equal(labels[0], labels[1])
    for index in (0, 7, 39):
        assert torch.equal(superpixels(pixels[index : index + 1])[0], labels[index])
    assert torch.equal(superpixels(pixels.flip(0)).flip(0), labels)
    assert torch.equal(superpixels(pixels.contiguous(memory_format=torch.channels_last)), labels)


def test_superpixels_of_an_image_of_one_colour_are_a_regular_grid() -> None:
    labels = superpixels(torch.full((1, 3, 28, 56), 0.3))[0]
    expected = 7 * torch.arange(28)[:, None].div(4, rounding_mode="floor") + torch.arange(56).div(
        8, rounding_mode="floor"
    )
    assert torch.equal(labels, expected)


def test_superpixels_follow_a_boundary_of_colours() -> None:
    pixels = torch.zeros(1, 3, 32, 32)
    pixels[..., 15:] = 1  # two pixels from the nearest boundary of the grid
    labels = superpixels(pixels)[0]
    mixed = set(labels[:, :15].unique().tolist()) & set(labels[:, 15:].unique().tolist())
    grid = torch.arange(32) * 7 // 32
    assert grid[14] == grid[15]
    assert len(mixed) <= 0


def clustered(pixels: np.ndarray, cells: int) -> np.ndarray:
    """The k-means of the definition, a pixel at a time: ``(C, H, W)`` to ``(H, W)``, H = W = 4 * cells."""
    side = pixels.shape[1]
    home = {(y, x): (y // 4) * cells + x // 4 for y, x in itertools.product(range(side), repeat=2)}
    feature = {(y, x): np.array([(y + 0.5) / 4, (x + 0.5) / 4, *(pixels[:, y, x] / 0.25)]) for y, x in home}
    labels = dict(home)
    for _ in range(10):
        centres = [
            np.mean([feature[place] for place in home if labels[place] == label], axis=0)
            for label in range(cells**2)
        ]
        for (y, x), own in home.items():
            near = [
                label
                for label in range(cells**2)
                if abs(label // cells - own // cells) <= 1 and abs(label % cells - own % cells) <= 1
            ]
            labels[y, x] = min(near, key=lambda label: np.sum((feature[y, x] - centres[label]) ** 2))
            if y % 4 == x % 4 == 2:
                labels[y, x] = own
    return np.array([[labels[y, x] for x in range(side)] for y in range(side)])


def test_superpixels_are_the_k_means_of_the_definition() -> None:
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    for labels, each in zip(superpixels(pixels), pixels.double().numpy(), strict=True):
        np.testing.assert_array_equal(labels, clustered(each, 4))
