from __future__ import annotations

import captum.metrics
import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from scipy.ndimage import gaussian_filter
from small import SmallNet, state
from torch import Tensor, nn

from xaicmp.core.attribution import METHODS
from xaicmp.core.attribution.context import Context
from xaicmp.core.images.cifar10 import MEAN, STD
from xaicmp.core.results.settings import Settings
from xaicmp.core.studies import faithfulness as studied
from xaicmp.core.studies.faithfulness import (
    BASELINES,
    CURVES,
    NOISES,
    OUTPUTS,
    Baseline,
    Faithfulness,
    impute,
)
from xaicmp.errors import UsageError

OWN = ("baseline", "steps", "samples")


def faithfulness(
    model: nn.Module, images: Tensor, targets: Tensor, maps: Tensor, **options: object
) -> Faithfulness:
    """With what ``Context`` takes among the options."""
    own = {name: options.pop(name) for name in OWN if name in options}
    return studied.faithfulness(Context(model, images, targets, **options), maps, **own)  # type: ignore[arg-type]


def images_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Sum(nn.Module):
    """Logits (sum of the image, 0), and what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        total = images.sum(dim=(1, 2, 3))
        return torch.stack([total, torch.zeros_like(total)], dim=1)


def grey(values: list[list[float]]) -> Tensor:
    """One image ``(1, 3, H, W)`` whose pixels sum to ``values`` over the channels."""
    return torch.tensor(values)[None, None].expand(-1, 3, -1, -1) / 3


FIRST = torch.tensor([0])


def worked(image: Tensor, maps: Tensor, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The logit's deletion and insertion curve of one map, by the sum classifier from the zero image."""
    result = faithfulness(Sum(), image, FIRST, maps[None], steps=steps, samples=0)
    curves = result.curves["logit"]
    areas = (result.auc("logit", curve)[0, 0] for curve in CURVES)
    for area, curve in zip(areas, curves[0, :, 0], strict=True):
        assert area == pytest.approx(trapezoid(curve, result.removed))
    return curves[0, 0, 0], curves[0, 1, 0]


def test_the_curves_of_a_sum_worked_out_on_paper() -> None:
    image = grey([[0.4, 0.1], [0.2, 0.3]])
    deletion, insertion = worked(image, image.sum(dim=1), steps=4)
    np.testing.assert_allclose(deletion, [1, 0.6, 0.3, 0.1, 0], atol=1e-6)
    np.testing.assert_allclose(insertion, [1, 0.9, 0.7, 0.4, 0], atol=1e-6)
    result = faithfulness(Sum(), image, FIRST, image.sum(dim=1)[None], steps=4, samples=0)
    assert result.auc("logit", "deletion")[0, 0] == pytest.approx(0.375)
    assert result.auc("logit", "insertion")[0, 0] == pytest.approx(0.625)
    assert result.gain("logit")[0, 0] == pytest.approx(0.25)
    np.testing.assert_allclose(result.removed, [0, 0.25, 0.5, 0.75, 1])


def test_the_probability_is_the_softmax_worked_out_on_paper() -> None:
    image = grey([[0.4, 0.1], [0.2, 0.3]])
    result = faithfulness(Sum(), image, FIRST, image.sum(dim=1)[None], steps=2, samples=0)
    sigmoids = 1 / (1 + np.exp(-np.array([1, 0.3, 0])))
    np.testing.assert_allclose(result.curves["probability"][0, 0, 0], sigmoids, rtol=1e-6)
    area = 0.25 * sigmoids[0] + 0.5 * sigmoids[1] + 0.25 * sigmoids[2]
    assert result.auc("probability", "deletion")[0, 0] == pytest.approx(area)


def test_a_single_pixel_that_is_all_there_is() -> None:
    """Found at once, the area is half the first step; found last, all but half the last."""
    image = grey([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    deletion, insertion = worked(image, image.sum(dim=1), steps=9)
    np.testing.assert_allclose(deletion, [1, *[0] * 9], atol=1e-6)
    np.testing.assert_allclose(insertion, [*[1] * 9, 0], atol=1e-6)
    wrong, right = worked(image, -image.sum(dim=1), steps=9)
    np.testing.assert_allclose(wrong, [*[1] * 9, 0], atol=1e-6)
    np.testing.assert_allclose(right, [1, *[0] * 9], atol=1e-6)


def test_ties_are_removed_by_the_lower_index_in_both_orders() -> None:
    image = grey([[8.0, 4.0], [2.0, 1.0]])
    deletion, insertion = worked(image, torch.tensor([[[1.0, 2.0], [1.0, 2.0]]]), steps=4)
    np.testing.assert_allclose(deletion, [15, 11, 10, 2, 0], atol=1e-5)
    np.testing.assert_allclose(insertion, [15, 7, 5, 1, 0], atol=1e-5)


def test_portions_that_do_not_divide_the_pixels_are_rounded() -> None:
    image = grey([[1.0] * 5] * 5)
    result = faithfulness(Sum(), image, FIRST, torch.arange(25.0).view(1, 1, 5, 5), steps=4, samples=0)
    np.testing.assert_allclose(result.removed * 25, [0, 6, 12, 19, 25])
    np.testing.assert_allclose(result.curves["logit"][0, 0, 0], [25, 19, 13, 6, 0], rtol=1e-6)
    # The score falls in proportion to what is removed, whatever the portions: the area is a half.
    assert result.auc("logit", "deletion")[0, 0] == pytest.approx(12.5)


def test_one_step_is_the_whole_image_and_none_of_it() -> None:
    image = grey([[0.4, 0.1], [0.2, 0.3]])
    deletion, insertion = worked(image, image.sum(dim=1), steps=1)
    np.testing.assert_allclose(deletion, [1, 0], atol=1e-6)
    np.testing.assert_allclose(insertion, [1, 0], atol=1e-6)


def fill_by(baseline: Baseline, image: Tensor) -> np.ndarray:
    """What stands for removed pixels, by numpy and scipy."""
    if baseline == "blur":
        sigma = min(image.shape[1:]) / 8
        return np.stack(
            [gaussian_filter(x, sigma, mode="mirror", truncate=2) for x in image.double().numpy()]
        )
    return np.zeros(image.shape)


@pytest.mark.parametrize("baseline", ["zero", "blur"])
def test_the_curves_are_those_of_a_loop_over_images_methods_and_steps(baseline: Baseline) -> None:
    model = SmallNet().eval()
    images, targets, maps = images_of(3, 3, 16, 16), torch.tensor([4, 0, 7]), images_of(2, 3, 16, 16, seed=1)
    result = faithfulness(
        model, images, targets, maps, baseline=baseline, steps=6, samples=0, mean=MEAN, std=STD
    )
    for method in range(2):
        for image in range(3):
            ranked = np.argsort(-maps[method, image].flatten().numpy(), kind="stable")
            fill = fill_by(baseline, images[image])
            for curve, order in enumerate((ranked, ranked[::-1])):
                for step in range(7):
                    removed = np.zeros(256, dtype=bool)
                    removed[order[: round(256 * step / 6)]] = True
                    filled = np.where(removed.reshape(16, 16), fill, images[image].numpy())
                    with torch.no_grad():
                        logits = model(torch.tensor(filled[None], dtype=torch.float32))[0]
                    logit = logits[targets[image]].item()
                    probability = logits.softmax(dim=0)[targets[image]].item()
                    place = (method, curve, image, step)
                    assert result.curves["logit"][place] == pytest.approx(logit, rel=1e-4, abs=1e-4)
                    assert result.curves["probability"][place] == pytest.approx(probability, abs=1e-4)


def test_what_is_left_by_one_order_is_what_the_other_removes() -> None:
    """For a linear model and the zero image, both together are the whole, for any order."""
    images = images_of(5, 3, 6, 8)
    result = faithfulness(
        Sum(), images, torch.zeros(5).long(), images_of(2, 5, 6, 8, seed=1), steps=8, samples=0
    )
    # The order from the centre has ties, which go by the lower index both ways.
    deletion, insertion = result.curves["logit"][:3, 0], result.curves["logit"][:3, 1]
    whole = images.sum(dim=(1, 2, 3)).numpy()[:, None]
    np.testing.assert_allclose(
        deletion + insertion[..., ::-1], np.broadcast_to(whole, deletion.shape), atol=1e-3
    )


def test_the_order_of_the_truth_is_better_than_random_and_its_opposite_worse() -> None:
    images = images_of(20, 3, 8, 8)
    truth = images.sum(dim=1)
    result = faithfulness(Sum(), images, torch.zeros(20).long(), torch.stack([truth, -truth]), samples=0)
    right, wrong, random, _ = result.gain("logit")
    assert (right > random).all()
    assert (wrong < random).all()
    np.testing.assert_allclose(right, -wrong, rtol=1e-5)
    assert abs(random.mean()) < 0.1 * right.mean()


@pytest.mark.parametrize("baseline", BASELINES)
def test_an_image_alone_gets_what_it_gets_among_many_in_any_batch_size(baseline: Baseline) -> None:
    model = SmallNet()
    images, targets, maps = images_of(5, 3, 12, 10), torch.arange(5), images_of(2, 5, 12, 10, seed=1)
    ids = [30, 10, 20, 7, 8]
    options = {"baseline": baseline, "steps": 5, "samples": 6, "seed": 3}
    among = faithfulness(model, images, targets, maps, ids=ids, **options)
    for batch_size in (1, 7, 1000):
        chunked = faithfulness(model, images, targets, maps, ids=ids, batch_size=batch_size, **options)
        alone = faithfulness(
            model, images[2:3], targets[2:3], maps[:, 2:3], ids=[20], batch_size=batch_size, **options
        )
        for output in OUTPUTS:
            np.testing.assert_allclose(chunked.curves[output], among.curves[output], rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(
                alone.curves[output], among.curves[output][:, :, 2:3], rtol=1e-4, atol=1e-4
            )
        np.testing.assert_allclose(chunked.infidelity, among.infidelity, rtol=1e-3)
        np.testing.assert_allclose(alone.infidelity, among.infidelity[:, 2:3], rtol=1e-3)


@pytest.mark.parametrize("baseline", BASELINES)
def test_the_seed_decides_every_draw_and_no_global_state_is_touched(baseline: Baseline) -> None:
    images, maps = images_of(3, 3, 8, 8), images_of(1, 3, 8, 8, seed=1)

    def run(seed: int) -> tuple[np.ndarray, np.ndarray]:
        result = faithfulness(
            SmallNet(), images, torch.arange(3), maps, baseline=baseline, steps=4, samples=5, seed=seed
        )
        return result.curves["logit"], result.infidelity

    first = run(1)
    torch.manual_seed(99)
    np.random.seed(99)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    again, other = run(1), run(2)
    assert (torch.get_rng_state() == before[0]).all()
    assert np.random.get_state()[1].tolist() == before[1]
    for one, same, different in zip(first, again, other, strict=True):
        assert (one == same).all()
        assert (one != different).any()
    # Only the random order and ROAD's noise depend on it.
    assert (first[0][0] == other[0][0]).all() == (baseline != "road")


def test_passes_are_no_larger_than_asked_and_no_more_than_said() -> None:
    model, reports = Sum(), []
    faithfulness(
        model,
        images_of(3, 3, 6, 6),
        torch.zeros(3).long(),
        images_of(2, 3, 6, 6),
        steps=5,
        samples=4,
        batch_size=10,
        report=lambda *report: reports.append(report),
    )
    sizes = [len(each) for each in model.seen]
    total = 3 * (2 + 2 * 4 * 4 + 4)
    assert max(sizes) == 10
    assert sum(sizes) == total
    assert [done for done, _ in reports] == np.cumsum(sizes).tolist()
    assert {every for _, every in reports} == {total}


def test_the_model_is_left_as_it_was_also_after_a_failure() -> None:
    model = SmallNet().train()
    before = state(model)
    images, maps = images_of(2, 3, 8, 8), images_of(1, 2, 8, 8)
    faithfulness(model, images, torch.tensor([0, 1]), maps, steps=3, samples=2)
    assert state(model) == before
    with pytest.raises(IndexError):
        faithfulness(model, images, torch.tensor([0, 10]), maps, steps=3, samples=2)
    assert state(model) == before


def test_a_map_without_an_order_has_no_curve_and_harms_no_other() -> None:
    images, maps = images_of(4, 3, 6, 6), images_of(2, 4, 6, 6, seed=1)
    whole = faithfulness(SmallNet(), images, torch.arange(4), maps, steps=4, samples=3)
    maps = maps.clone()
    maps[0, 1] = 0
    maps[1, 2, 3, 3] = float("nan")
    result = faithfulness(SmallNet(), images, torch.arange(4), maps, steps=4, samples=3)
    bad = np.zeros((4, 4), dtype=bool)
    bad[0, 1] = bad[1, 2] = True
    for output in OUTPUTS:
        for curve in CURVES:
            areas = result.auc(output, curve)
            assert (np.isnan(areas) == bad).all()
            np.testing.assert_allclose(areas[~bad], whole.auc(output, curve)[~bad], rtol=1e-6)
    assert (np.isnan(result.infidelity) == [[False] * 4, [False, False, True, False]]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "mean"}, "unknown baseline 'mean'; choose from zero, blur, road"),
        ({"steps": 0}, "0 steps of 16 pixels"),
        ({"steps": 17}, "17 steps of 16 pixels: take between 1 and 16"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        faithfulness(Sum(), images_of(1, 3, 4, 4), FIRST, images_of(1, 1, 4, 4), **options)


# ROAD.


def impute_dense(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """One equation a removed pixel, solved in full."""
    height, width = removed.shape
    unknown = [tuple(at) for at in np.argwhere(removed)]
    matrix, right = np.zeros((len(unknown), len(unknown))), np.zeros((len(unknown), len(image)))
    for row, (y, x) in enumerate(unknown):
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                at = (y + dy, x + dx)
                if (dy, dx) == (0, 0) or not (0 <= at[0] < height and 0 <= at[1] < width):
                    continue
                weight = 1 / 12 if dy and dx else 1 / 6
                matrix[row, row] += weight
                if removed[at]:
                    matrix[row, unknown.index(at)] -= weight
                else:
                    right[row] += weight * image[:, at[0], at[1]]
    result = image.copy()
    result[:, removed] = np.linalg.solve(matrix, right).T
    return result


@pytest.mark.parametrize("shape", [(6, 6), (5, 7), (1, 6), (6, 1), (2, 5), (5, 2)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_imputation_solves_the_equations_of_all_removed_pixels(shape: tuple[int, int], share: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        image, removed = rng.normal(size=(3, *shape)), rng.random(shape) < share
        removed.flat[rng.integers(removed.size)] = False
        np.testing.assert_allclose(
            impute(image, removed), impute_dense(image, removed), rtol=1e-9, atol=1e-12
        )


def test_imputation_of_all_but_one_pixel_is_that_pixel_and_of_none_the_image() -> None:
    image = np.random.default_rng(0).normal(size=(3, 6, 6))
    removed = np.ones((6, 6), dtype=bool)
    removed[4, 1] = False
    np.testing.assert_allclose(impute(image, removed), np.broadcast_to(image[:, 4:5, 1:2], (3, 6, 6)))
    assert (impute(image, ~removed & removed) == image).all()


def test_imputation_of_a_plane_from_its_border_is_the_plane() -> None:
    """Linear functions solve the equations, as the weights are symmetric."""
    plane = (np.add.outer(2.0 * np.arange(6), -3.0 * np.arange(6)) + 1)[None]
    removed = np.zeros((6, 6), dtype=bool)
    removed[1:-1, 1:-1] = True
    np.testing.assert_allclose(impute(plane, removed), plane, atol=1e-12)


def test_imputation_of_everything_is_the_mean_colour() -> None:
    image = np.random.default_rng(0).normal(size=(3, 6, 6))
    filled = impute(image, np.ones((6, 6), dtype=bool))
    np.testing.assert_allclose(filled, np.broadcast_to(image.mean(axis=(1, 2))[:, None, None], (3, 6, 6)))


def test_road_adds_a_little_noise_to_what_it_imputes_and_none_to_what_is_kept() -> None:
    model, images, maps = Sum(), images_of(2, 3, 12, 12), images_of(1, 2, 12, 12, seed=1)
    std = (0.5, 0.25, 0.1)
    result = faithfulness(
        model,
        images,
        torch.zeros(2).long(),
        maps,
        baseline="road",
        steps=4,
        samples=0,
        std=std,
        batch_size=64,
    )
    assert len(model.seen) == 2 * NOISES
    ends, inner = model.seen[0], model.seen[NOISES]
    assert (ends[0] == images[0]).all()
    assert (ends[2] == images[1]).all()
    order = maps[0, 0].flatten().argsort(descending=True)
    noises = []
    for step, filled in enumerate(inner[:3]):  # the first method, most relevant first, the first image
        removed = torch.zeros(144, dtype=torch.bool)
        removed[order[: 36 * (step + 1)]] = True
        removed = removed.view(12, 12)
        assert (filled[:, ~removed] == images[0][:, ~removed]).all()
        exact = torch.from_numpy(impute(images[0].double().numpy(), removed.numpy()))
        noises.append((filled - exact) * removed)
        found = noises[-1][:, removed].std(dim=1) * torch.tensor(std).double()
        assert (found - 0.01).abs().max() < 0.004
    torch.testing.assert_close(noises[1] * (noises[0] != 0), noises[0], atol=1e-6, rtol=0)
    # The output is the mean over all draws of the noise.
    draws = torch.stack(model.seen[NOISES:])
    assert (draws.flatten(1).unique(dim=0).shape[0]) == NOISES
    expected = draws.double().sum(dim=(2, 3, 4)).mean(dim=0)
    found = result.curves["logit"][..., 1:-1].flatten()
    np.testing.assert_allclose(found, expected, atol=1e-4)


# Against the controls, and each other.


def gains(*rows: np.ndarray) -> Faithfulness:
    """A study whose gains are these: of each method, of a random order, from the centre."""
    deletion = np.stack([np.zeros((len(rows), len(rows[0]))), np.stack(rows)], axis=1)[..., None]
    curves = np.repeat(deletion, 2, axis=3)
    return Faithfulness(
        "zero", np.array([0.0, 1.0]), dict.fromkeys(OUTPUTS, curves), np.empty((len(rows) - 2, 0))
    )


def test_methods_are_tested_against_the_controls_and_each_other_image_by_image() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=12)  # what all have in common, which no unpaired test would see through
    a, b = image + 0.2 + 0.01 * rng.normal(size=12), image + 0.2 + 0.01 * rng.normal(size=12)
    c, random, centre = image + 0.1, image * 0, image + 0.1 + 0.01 * rng.normal(size=12)
    study = gains(a, b, c, random, centre)
    for control, floor in (("random", random), ("centre", centre)):
        for test, own in zip(study.above(control), (a, b, c), strict=True):
            assert test.difference == pytest.approx((own - floor).mean())
    assert [test.p < 0.05 for test in study.above("centre")] == [True, True, False]
    assert [test.p < 0.05 for test in study.above("random")] == [False] * 3
    flips = (1 - 2 * (np.arange(2**12)[:, None] >> np.arange(12) & 1)) @ (a - random)
    assert study.above("random")[0].p == pytest.approx(
        np.mean(np.abs(flips) >= abs((a - random).sum()) - 1e-12)
    )
    tests, letters = study.differences("abc")
    assert [(test.a, test.b) for test in tests] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert tests[1].difference == pytest.approx((a - c).mean())
    assert letters["a"] == letters["b"] != letters["c"]
    few = gains(*(each[:4] for each in (a, b, c, random, centre)))
    assert few.differences("abc")[1] == dict.fromkeys("abc", "-")


def test_the_control_from_the_centre_is_the_gaussian_there() -> None:
    images, targets = images_of(2, 3, 9, 9), torch.zeros(2).long()
    map_of = METHODS["centre"].explain(Sum(), images, targets)
    result = faithfulness(Sum(), images, targets, map_of[None], steps=9, samples=0)
    for curves in result.curves.values():
        assert (curves[0] == curves[2]).all()
    assert [test.difference for test in result.above("centre")] == [0]


# Infidelity.


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_infidelity_is_captums_on_the_same_perturbations(scale: float) -> None:
    model = SmallNet().eval()
    images, targets = images_of(4, 3, 12, 10), torch.tensor([1, 5, 0, 9])
    maps = torch.stack([METHODS["saliency"].explain(model, images, targets), images_of(4, 12, 10)])
    seen: list[Tensor] = []
    handle = model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    result = faithfulness(model, images, targets, scale * maps, steps=1, samples=7, batch_size=28)
    handle.remove()
    perturbed = (
        seen[-1].unflatten(0, (7, 4)).transpose(0, 1).flatten(0, 1)
    )  # image by image, as Captum has it
    removed = (perturbed != images.repeat_interleave(7, dim=0)).any(dim=1, keepdim=True)
    for row, each in enumerate(maps):
        expected = captum.metrics.infidelity(
            model,
            lambda inputs: (removed.expand_as(inputs).float(), perturbed),
            images,
            each[:, None].expand(-1, 3, -1, -1) / 3,
            target=targets,
            n_perturb_samples=7,
            normalize=True,
        )
        np.testing.assert_allclose(result.infidelity[row], expected.detach(), rtol=1e-3, atol=1e-5)


def test_infidelity_of_the_truth_is_zero_and_of_a_zero_map_the_mean_square_drop() -> None:
    images = images_of(5, 3, 8, 8)
    truth = images.sum(dim=1)
    model = Sum()
    result = faithfulness(
        model, images, torch.zeros(5).long(), torch.stack([-3 * truth, 0 * truth]), steps=1, samples=9
    )
    np.testing.assert_allclose(result.infidelity[0], 0, atol=1e-8)
    drops = images.sum(dim=(1, 2, 3)) - model.seen[-1].unflatten(0, (9, 5)).sum(dim=(2, 3, 4))
    np.testing.assert_allclose(result.infidelity[1], drops.square().mean(dim=0), rtol=1e-4)


def test_the_perturbations_are_squares_inside_the_image_of_every_size_to_half_a_side() -> None:
    model = Sum()
    faithfulness(
        model,
        torch.ones(2, 3, 8, 10),
        torch.zeros(2).long(),
        images_of(1, 2, 8, 10),
        steps=1,
        samples=300,
        batch_size=1000,
    )
    removed = model.seen[-1][:, 0] == 0
    sizes = set()
    for each in removed:
        rows, columns = each.any(dim=1).nonzero()[:, 0], each.any(dim=0).nonzero()[:, 0]
        assert rows[-1] - rows[0] == columns[-1] - columns[0] == len(rows) - 1 == len(columns) - 1
        assert each.sum() == len(rows) * len(columns)
        sizes.add(len(rows))
    assert sizes == {1, 2, 3, 4}
    assert removed.any(dim=0).all()


def test_no_samples_leave_infidelity_out() -> None:
    result = faithfulness(
        Sum(), images_of(2, 3, 4, 4), torch.zeros(2).long(), images_of(1, 2, 4, 4), samples=0, steps=2
    )
    assert np.isnan(result.infidelity).all()


def test_the_random_order_is_drawn_anew_for_each_image() -> None:
    images = images_of(1, 3, 8, 8).expand(3, -1, -1, -1)
    result = faithfulness(
        Sum(), images, torch.zeros(3).long(), images_of(1, 1, 8, 8).expand(-1, 3, -1, -1), samples=0, steps=4
    )
    own, random = result.curves["logit"][0, 0], result.curves["logit"][1, 0]
    np.testing.assert_allclose(own[0], own[1], rtol=1e-5)
    assert np.abs(random[0] - random[1]).max() > 0.1
    assert np.abs(random[1] - random[2]).max() > 0.1
    drawn = [
        torch.rand(8, 8, generator=each)
        for each in Context(Sum(), images, torch.zeros(3).long()).generators("order")
    ]
    again = faithfulness(Sum(), images, torch.zeros(3).long(), torch.stack(drawn)[None], samples=0, steps=4)
    np.testing.assert_allclose(again.curves["logit"][0], again.curves["logit"][1])


def test_what_is_told_apart_does_not_depend_on_the_seed_of_a_run() -> None:
    curves = {output: np.random.default_rng(0).random((4, 2, 40, 3)) for output in OUTPUTS}
    none = np.full((2, 40), np.nan)
    one, other = (
        Faithfulness("zero", np.linspace(0, 1, 3), curves, none, Settings(seed=seed)) for seed in (0, 1)
    )
    assert one.above("centre") == other.above("centre")
    assert one.differences(["a", "b"]) == other.differences(["a", "b"])
