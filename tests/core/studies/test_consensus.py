"""Many methods at once: Kendall's W, the consensus, and the tree of the methods."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from small import SmallNet

import xaicmp
from xaicmp.core.agreement.correlation import mean_ranks
from xaicmp.core.results.settings import Settings
from xaicmp.core.studies.clusters import clusters
from xaicmp.core.studies.consensus import ALL, consensus, kendall_w
from xaicmp.core.studies.groups import by_method
from xaicmp.errors import UsageError
from xaicmp.views.tables.consensus import consensus as consensus_table

TITLES = {"a": "A", "b": "B", "c": "C"}


def test_w_of_three_methods_and_four_pixels_worked_out_on_paper() -> None:
    # Ranks 1 2 3 4, 1 2 4 3 and 2 1 3 4 add up to 4, 5, 10, 11: S = 3.5^2 + 2.5^2 + 2.5^2 + 3.5^2 = 37.
    ranks = torch.tensor([[[1.0, 2, 3, 4]], [[1, 2, 4, 3]], [[2, 1, 3, 4]]]).double()
    assert kendall_w(ranks)[0].item() == pytest.approx(12 * 37 / (9 * 60))
    # With a tie in the first, 1.5 1.5 3 4: sums 4.5, 4.5, 10, 11, S = 36.5, and 3 x 6 less for the tie of two.
    ranks[0, 0, :2] = 1.5
    assert kendall_w(ranks)[0].item() == pytest.approx(12 * 36.5 / (9 * 60 - 3 * 6))


def test_w_is_friedmans_statistic_with_ties_and_its_control_that_of_all_other_images() -> None:
    maps = torch.randint(0, 9, (4, 6, 5, 6), generator=torch.Generator().manual_seed(0)).double()
    maps += 2 * torch.arange(30).view(5, 6)
    ranks = torch.stack([mean_ranks(each.flatten(1)) for each in maps])
    own, _ = kendall_w(ranks)
    for image in range(6):
        found = scipy.stats.friedmanchisquare(*maps[:, image].flatten(1).T.numpy()).statistic
        assert own[image].item() == pytest.approx(found / (4 * 29))
    # Of two methods W is (1 + rho) / 2 where both have the same ties, so that its control is the mean over rho.
    plain = torch.stack([mean_ranks(torch.randn(6, 30)) for _ in range(2)])
    rho = np.array([[scipy.stats.spearmanr(x, y).statistic for y in plain[1]] for x in plain[0]])
    np.fill_diagonal(rho, np.nan)
    expected = (1 + (np.nanmean(rho, axis=0) + np.nanmean(rho, axis=1)) / 2) / 2
    np.testing.assert_allclose(kendall_w(plain)[1], expected, atol=1e-12)


def test_each_method_is_held_against_the_mean_rank_of_the_others() -> None:
    maps = torch.randn(3, 5, 6, 7, generator=torch.Generator().manual_seed(1))
    maps[2, 3] = 0
    found = consensus(maps, TITLES, Settings())
    ranks = np.stack([scipy.stats.rankdata(each.flatten(1).numpy(), axis=1) for each in maps])
    np.testing.assert_allclose(found.maps.reshape(5, -1), ranks.mean(axis=0), rtol=1e-6)
    expected = [
        scipy.stats.spearmanr(maps[0, i].ravel(), ranks[1:, i].sum(axis=0)).statistic for i in range(5)
    ]
    (w,), own = found.values["kendall_w"].values(), found.values["consensus"]["a"]
    assert np.isnan(w).tolist() == np.isnan(own).tolist() == [False] * 3 + [True, False]
    expected[3] = np.nan
    np.testing.assert_allclose(own, expected, atol=1e-12)
    # Without a relation to other images, what is left with them is about nothing.
    assert found.control("kendall_w", ALL, "other_image") == pytest.approx(1 / 3, abs=0.1)
    assert found.summary("kendall_w", ALL).n == found.summary("consensus", "b").n == 4
    with pytest.raises(UsageError, match="three or more"):
        consensus(maps[:2], {"a": "A", "b": "B"}, Settings())


@pytest.fixture(scope="module")
def result() -> xaicmp.Result:
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    names = ["saliency", "input-x-gradient", "saliency:l2", "edge"]
    return xaicmp.compare(SmallNet(0), images, methods=names)


def test_the_tree_joins_those_that_agree_most_at_the_mean_of_their_pairs(result: xaicmp.Result) -> None:
    tree = result.clusters()["pearson"]
    scores = result.comparison.scores
    above = {
        frozenset(pair): (values - scores.controls["other_image"]["pearson"][pair]).mean()
        for pair, values in scores.values["pearson"].items()
    }
    names, seen = tree.methods, [frozenset([index]) for index in range(4)]
    for (a, b), agreement in zip(tree.joins.tolist(), tree.agreement, strict=True):
        between = [above[frozenset((names[i], names[j]))] for i in seen[a] for j in seen[b]]
        assert agreement == pytest.approx(np.mean(between))
        seen.append(seen[a] | seen[b])
    assert max(above, key=lambda pair: above[pair]) == {names[index] for index in tree.joins[0]}
    assert tree.members == seen
    assert tree.support[-1] == 1
    assert (tree.support >= 0).all()
    again = result.comparison.rows(np.arange(4))
    assert np.isnan(clusters(again)["iou"].support).all()
    maps = result.consensus()
    assert list(maps.titles) == ["saliency", "input-x-gradient", "saliency:l2"]
    assert result.figure("clusters").axes[0].get_title() == "Pearson"


def test_a_branch_that_hangs_on_few_images_has_little_support(result: xaicmp.Result) -> None:
    """Of three methods two agree on every image, or which do is drawn for each."""
    rng, comparison = np.random.default_rng(0), result.comparison
    pairs = comparison.pairs
    for level, low, high in ((1.0, 0.99, 1.0), (0.0, 0.2, 0.8)):
        values = {pair: rng.normal(size=8) for pair in pairs}
        values[pairs[0]] = values[pairs[0]] + 5 * level
        zeros = {"pearson": dict.fromkeys(pairs, np.zeros(8))}
        scores = replace(comparison.scores, values={"pearson": values}, controls={"other_image": zeros})
        settings = Settings(["pearson"], controls=["other-image"])
        tree = clusters(replace(comparison, scores=scores, settings=settings))["pearson"]
        assert low <= tree.support[0] <= high


def test_what_makes_no_tree_is_refused_and_what_is_undefined_left_out(result: xaicmp.Result) -> None:
    bare = replace(result.comparison, settings=Settings(controls="none"))
    with pytest.raises(UsageError, match="the tree of the methods needs other-image"):
        clusters(bare)
    values = {
        pair: np.full(8, np.nan) if "edge" in pair else each
        for pair, each in result.comparison.scores.values["pearson"].items()
    }
    scores = replace(result.comparison.scores, values={"pearson": values})
    settings = Settings(["pearson"], controls=["other-image"])
    tree = clusters(replace(result.comparison, scores=scores, settings=settings))["pearson"]
    assert tree.left_out == ("edge",)
    assert len(tree.methods) == 3


@pytest.fixture(scope="module")
def with_twins() -> tuple[xaicmp.Result, xaicmp.Result]:
    """Methods of which two have the maps of another, in all places; and those alone that have maps of their own."""
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    own = ["saliency", "grad-cam", "edge", "input-x-gradient"]
    every = ["saliency", "grad-cam", "hirescam", "edge", "captum:Saliency", "input-x-gradient"]
    model = SmallNet(0).eval()
    return xaicmp.compare(model, images, methods=every), xaicmp.compare(model, images, methods=own)


def test_a_map_counts_once_in_what_all_methods_have_in_common(
    with_twins: tuple[xaicmp.Result, xaicmp.Result],
) -> None:
    every, own = with_twins
    assert every.comparison.identities == {("grad-cam", "hirescam"), ("saliency", "captum:Saliency")}
    assert every.comparison.distinct == tuple(own.comparison.titles)
    assert set(every.comparison.distinct_pairs) == set(own.comparison.model_pairs)
    for statistic in ("pearson", "iou"):
        left, right = (each.comparison.mean_over_pairs(statistic) for each in with_twins)
        np.testing.assert_allclose(left, right, atol=1e-9)
        means = [
            {name: found[statistic].mean for name, found in by_method(each.comparison).items()}
            for each in with_twins
        ]
        twins = {"hirescam": "grad-cam", "captum:Saliency": "saliency"}
        for name in every.comparison.titles:
            assert means[0][name] == pytest.approx(means[1][twins.get(name, name)], abs=1e-6)
    found, wanted = every.consensus(), own.consensus()
    assert found.left_out == ("HiResCAM", every.comparison.titles["captum:Saliency"])
    assert list(found.titles) == list(wanted.titles)
    np.testing.assert_allclose(found.values["kendall_w"][ALL], wanted.values["kendall_w"][ALL], atol=1e-6)
    for name in wanted.titles:
        np.testing.assert_allclose(
            found.values["consensus"][name], wanted.values["consensus"][name], atol=1e-6
        )
    assert "maps of one before: HiResCAM, " in consensus_table(found).note
    assert wanted.left_out == ()


def test_methods_that_all_have_the_same_maps_are_all_counted() -> None:
    maps = torch.randn(3, 4, 6, 7, generator=torch.Generator().manual_seed(4))
    maps[1:] = maps[:1]
    found = consensus(maps, TITLES, Settings(), ["a"])
    assert list(found.titles) == ["a", "b", "c"]
    np.testing.assert_allclose(found.values["kendall_w"][ALL], 1)
    maps[2] = torch.randn(4, 6, 7, generator=torch.Generator().manual_seed(5))
    two = consensus(maps, TITLES, Settings(), ["a", "c"])
    rho = [scipy.stats.spearmanr(*each.flatten(1).numpy()).statistic for each in maps[[0, 2]].unbind(1)]
    np.testing.assert_allclose(two.values["consensus"]["a"], rho, atol=1e-12)
    np.testing.assert_allclose(two.values["kendall_w"][ALL], (1 + np.array(rho)) / 2, atol=1e-12)
