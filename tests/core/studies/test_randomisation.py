from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import scipy.stats
import torch
from small import SmallNet, small_engine, state
from torch import Tensor, nn

from xaicmp.core.agreement.partners import other_images
from xaicmp.core.agreement.registry import agreement
from xaicmp.core.attribution import METHODS
from xaicmp.core.choices import Randomise
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.explainer import Explainer
from xaicmp.core.studies.randomisation import Inputs, Randomisation, randomisation_test, randomise
from xaicmp.core.studies.reinitialise import reinitialised

KINDS: tuple[Randomise, ...] = ("cascading", "independent")


def images_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def study(
    explain: Callable[[nn.Module], Tensor],
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    statistics: Sequence[str] = ("pearson",),
    seed: int = 0,
    **options: object,
) -> Randomisation:
    inputs = Inputs(images, labels, images[:64])
    return randomisation_test(explain, model, inputs, Settings(list(statistics), seed=seed), **options)  # type: ignore[arg-type]


def templates(seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """A classifier that knows ten patterns, and 200 noisy images of them, all classified correctly."""
    patterns = images_of(10, 3, 8, 8, seed=seed)
    labels = torch.arange(200) % 10
    images = patterns[labels] + 0.5 * images_of(200, 3, 8, 8, seed=seed + 1)
    hidden, head = nn.Linear(192, 10, bias=False), nn.Linear(10, 10, bias=False)
    with torch.no_grad():
        hidden.weight.copy_(patterns.flatten(1) / 192)
        head.weight.copy_(torch.eye(10) + 0.01 * images_of(10, 10))
    return nn.Sequential(nn.Flatten(), hidden, head).eval(), images, labels


def gradients(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return METHODS["saliency"].explain(model, images, targets)


@pytest.mark.parametrize("kind", KINDS)
def test_the_agreement_is_that_of_each_map_with_the_originals(kind: Randomise) -> None:
    model, images, labels = templates()
    images, labels = images[:24], labels[:24]

    def explain(of: nn.Module) -> Tensor:
        saliency = gradients(of, images, labels)
        return torch.stack([saliency, saliency * images[:, 0].abs()])

    result = study(explain, model, images, labels, ["spearman"], seed=4, kind=kind, draws=2)
    original = scipy.stats.rankdata(explain(model).flatten(2), axis=2)
    for draw in range(2):
        for row, copied in enumerate(reinitialised(model, images, kind, 4, draw)):
            assert result.stages[row] == copied.stage
            drawn = scipy.stats.rankdata(explain(copied.model).flatten(2), axis=2)
            for method in range(2):
                at = (method, draw, row)
                every = np.corrcoef(drawn[method], original[method])[:24, 24:]
                np.testing.assert_allclose(result.agreement["spearman"][at], every.diagonal(), atol=1e-9)
                # Of the re-initialised map of i with the original's of j: the level of the row and of the column.
                others = np.where(np.eye(24), np.nan, every)
                expected = np.nanmean(others, axis=1) + np.nanmean(others, axis=0) - np.nanmean(others)
                np.testing.assert_allclose(result.other_image["spearman"][at], expected, atol=1e-9)


def test_where_not_all_others_can_be_had_by_one_product_twenty_are_drawn() -> None:
    model, images, labels = templates()
    images, labels, original = images[:24], labels[:24], images_of(1, 24, 12, 12)
    maps = {True: original, False: original + images_of(1, 24, 12, 12, seed=1)}

    def explain(of: nn.Module) -> Tensor:
        return maps[of is model]

    result = study(explain, model, images, labels, ["ssim"], seed=4, draws=1)
    partners = other_images(np.zeros(24), 20, 4)
    drawn, trained = maps[False][0], original[0]
    others = torch.stack([agreement("ssim", drawn, trained[row]) for row in partners])
    assert len(partners) == 20
    assert result.other_image["ssim"][0, 0, 0].mean() == pytest.approx(float(others.mean()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_destroyed_and_said_to_be(kind: Randomise) -> None:
    model, images, labels = templates()
    reports: list[tuple[str, int, int]] = []
    result = study(
        lambda of: gradients(of, images, labels)[None],
        model,
        images,
        labels,
        kind=kind,
        draws=3,
        progress=lambda *report: reports.append(report),
    )
    assert result.draws == 3
    assert result.accuracy.shape == result.image_share.shape == (3,)
    assert result.accuracy[0] == 1
    assert result.accuracy[1:].max() < 0.4
    assert np.abs(result.agreement["pearson"].mean(axis=(1, 3))).max() < 0.7
    assert [report[1:] for report in reports] == [(done, 6) for done in range(7)]
    every = [list(reinitialised(model, images[:64], kind, 0, draw)) for draw in range(3)]
    for row in range(2):
        right = [
            (copies[row].model(images).argmax(dim=1) == labels).double().mean().item() for copies in every
        ]
        assert result.accuracy[1 + row] == pytest.approx(np.mean(right))
        assert result.image_share[1 + row] == min(copies[row].image_share for copies in every)
    unknown = study(lambda of: gradients(of, images, labels)[None], model, images, labels * 0 - 1, draws=1)
    assert np.isnan(unknown.accuracy).all()
    half = torch.where(torch.arange(200) < 100, labels, -1)
    assert (
        study(lambda of: gradients(of, images, labels)[None], model, images, half, draws=1).accuracy[0] == 1
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_knows_nothing_of_the_model_stays_the_same_throughout(kind: Randomise) -> None:
    model, images = small_net(), images_of(8, 3, 16, 16)
    targets = torch.arange(8)
    methods = [METHODS["edge"], METHODS["centre"], METHODS["saliency"]]
    result = study(
        lambda of: torch.stack([each.explain(of, images, targets) for each in methods]),
        model,
        images,
        targets,
        ["spearman", "ssim", "pearson"],
        kind=kind,
        draws=2,
    )
    for name in ("spearman", "ssim", "pearson"):
        assert result.agreement[name].shape == result.other_image[name].shape == (3, 2, 3, 8)
        np.testing.assert_allclose(result.agreement[name][:2], 1, atol=1e-12)
        np.testing.assert_allclose(result.area(name)[:2], 1, atol=1e-12)
        assert (result.area(name)[2] < 0.95).all()
    # That of the edges is above another image's, which shows that they fail; the centre is the same in every image.
    edge, centre, _ = result.last_stage("spearman")
    assert edge.difference > 0.5
    assert edge.p < 0.01
    assert (centre.difference, centre.p) == (0, 1)


def test_the_control_is_of_the_re_initialised_map_and_not_of_the_originals_among_themselves() -> None:
    """Trained maps share a centre that the others lose: against their own likeness every method would fall below."""
    count, size = 12, 8
    own = images_of(count, size, size)
    centre = 3 * METHODS["centre"].explain(
        nn.Identity(), torch.zeros(1, 3, size, size), torch.zeros(1).long()
    )
    model = nn.Sequential(nn.Linear(2, 2)).eval()
    before = model[0].weight.detach().clone()

    def explain(of: nn.Module) -> Tensor:
        trained = bool((of[0].weight == before).all())
        return (
            own + centre if trained else images_of(count, size, size, seed=int(of[0].weight[0, 0] * 1e6))
        )[None]

    inputs = images_of(count, 2)
    result = study(explain, model, inputs, torch.zeros(count).long(), draws=5, kind="cascading")
    (test,) = result.last_stage("pearson")
    trained = np.corrcoef((own + centre).flatten(1).numpy())
    old_floor = trained[~np.eye(count, dtype=bool)].mean()
    assert old_floor > 0.2
    assert abs(result.controls("pearson")[0, 0]) < 0.05
    assert test.low < 0 < test.high


def test_the_test_leaves_the_model_as_it_was_and_gives_the_same_again() -> None:
    model, images, targets = small_net().train(), images_of(4, 3, 16, 16), torch.arange(4)
    before = state(model)
    results = [
        study(
            lambda of: gradients(of, images, targets)[None],
            model,
            images,
            targets,
            ["spearman"],
            seed,
            draws=2,
        )
        for seed in (1, 1, 2)
    ]
    assert state(model) == before
    first, again, other = (each.agreement["spearman"] for each in results)
    assert (first == again).all()
    assert (first != other).any()


def small_net() -> nn.Module:
    return SmallNet().eval()


def found(
    agreement: np.ndarray, other: np.ndarray | None = None, share: Sequence[float] = ()
) -> Randomisation:
    """A study of one method, from ``(D, S, N)``."""
    stages = tuple("cba"[-agreement.shape[1] :])
    shares = np.array(share or [0.5] * (1 + len(stages)))
    other = np.zeros_like(agreement) if other is None else other
    return Randomisation(
        "cascading", stages, np.ones(1 + len(stages)), shares, {"iou": agreement[None]}, {"iou": other[None]}
    )


def test_the_area_excludes_the_original_stages_with_few_maps_and_what_is_undefined() -> None:
    nan = float("nan")
    agreement = np.array([[[0.6, nan, nan, nan], [0.2, 0.5, nan, 0.3], [0.1, 0.1, nan, nan]]])
    result = found(agreement)
    assert result.defined("iou").tolist() == [[1, 3, 2]]
    assert result.counted("iou").tolist() == [[False, True, True]]
    np.testing.assert_allclose(result.area("iou"), [[[0.15, 0.3, nan, 0.3]]])
    (area,) = result.areas("iou")
    assert (area.mean, area.n, area.undefined) == (pytest.approx(0.25), 3, 1)
    low, high = scipy.stats.t(2, 0.25, 0.05).interval(0.95)  # of 0.15, 0.3, 0.3: std 0.0866 / sqrt(3)
    assert (area.low, area.high) == (pytest.approx(low), pytest.approx(high))
    (none,) = found(np.full((2, 1, 4), nan)).areas("iou")
    assert (np.isnan(none.mean), none.n) == (True, 0)


def test_the_last_stage_is_tested_over_draws_and_images_worked_out_on_paper() -> None:
    """Draws whose means differ more than the images do: with Student's t of 2 degrees, 0.4 is no finding."""
    draws = np.array([0.1, 0.4, 0.7])
    agreement = np.repeat(draws[:, None, None], 8, axis=2) + 0.2
    (test,) = found(agreement, np.full_like(agreement, 0.2)).last_stage("iou")
    expected = scipy.stats.ttest_1samp(draws, 0)
    assert (test.difference, test.p) == (pytest.approx(0.4), pytest.approx(expected.pvalue))
    low, high = expected.confidence_interval(0.95)
    assert (test.low, test.high) == (pytest.approx(low), pytest.approx(high))
    assert test.lowest == 2 * 0.5**8


def test_a_dead_network_is_noticed_though_one_draw_alone_has_it() -> None:
    assert found(np.zeros((2, 3, 4)), share=[0.5, 0.4, 0.006, 0.004]).dead == [False, False, True]
    # Zero weights in the last layer leave nothing of the image.
    model, images, labels = templates()

    class Dead(nn.Linear):
        def reset_parameters(self) -> None:
            nn.init.zeros_(self.weight)

    model[1] = Dead(192, 10, bias=False)
    nn.init.normal_(model[1].weight)
    result = study(lambda of: gradients(of, images, labels)[None], model, images, labels, draws=2)
    assert result.dead == [False, True]
    assert result.image_share[-1] == 0


def test_an_image_has_the_same_networks_alone_and_among_others(sample: ImageSet) -> None:
    """Statistics are measured on the first images of the source, whichever are explained."""

    def of(*ids: int) -> Randomisation:
        at = np.array(ids)
        labels = np.asarray(sample.labels)[at]
        chosen = Predictions(at, labels, labels, np.ones(len(at)), labels)
        explainer = Explainer(small_engine(), [METHODS["saliency"]])
        return randomise(explainer, sample, chosen, Settings(), draws=2)

    alone, among = of(7), of(3, 5, 7)
    for name, values in alone.agreement.items():
        np.testing.assert_allclose(values[..., 0], among.agreement[name][..., 2], atol=1e-5)
    assert (alone.image_share == among.image_share).all()
