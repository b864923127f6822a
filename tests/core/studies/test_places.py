"""Where the agreement on one image stands among other images'."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small import SmallNet, compared, small_classifier

import xaicmp
from xaicmp.core.agreement.partners import place
from xaicmp.core.agreement.registry import STATISTICS, agreement
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.results.place import Place
from xaicmp.core.results.settings import Settings
from xaicmp.views.document import document

NAMES = ("grad-cam", "saliency", "edge")
AB = ("grad-cam", "saliency")
MEASURED = ["pearson", "iou", "ssim", "jensen-shannon"]


def by_hand(name: str, a: torch.Tensor, own: torch.Tensor, others: torch.Tensor) -> tuple[int, int]:
    """The rank of one map's agreement, and among how many, one statistic at a time."""
    observed = float(agreement(name, a[None], own[None], 0.2))
    null = np.array([float(agreement(name, a[None], each[None], 0.2)) for each in others])
    null = null[~np.isnan(null)]
    sign = 1 if STATISTICS[name].higher else -1
    return 1 + int((sign * null >= sign * observed - 1e-9).sum()), 1 + len(null)


def test_ranks_are_those_among_the_other_images_of_the_selection(sample: ImageSet) -> None:
    """Whether one product gives all, or the partners are drawn: of so few images all are."""
    comparison, batches = compared(sample, NAMES, tuple(range(9)), settings=Settings(MEASURED))
    maps = torch.cat([each.maps for each in batches], dim=1)
    for name in MEASURED:
        places = comparison.places("other_image", name, AB)
        for row, found in enumerate(places):
            rest = maps[1][torch.arange(9) != row]
            if found.rank is not None:
                assert (found.rank, found.among) == by_hand(name, maps[0, row], maps[1, row], rest)
        shifts = comparison.places("shifted", name, AB)
        assert {each.among for each in shifts if each.rank} == {20}
    image = document(comparison)["images"][3]
    entry = image["rank_among_others"]["pearson"]["grad-cam|saliency"]
    at = comparison.places("other_image", "pearson", AB)[3]
    assert entry == {"rank": at.rank, "of": 9, "p": at.p, "verdict": "too few others (smallest p 0.11)"}
    shifted = image["rank_among_shifts"]["pearson"]["grad-cam|saliency"]
    assert shifted["rank"] / shifted["of"] == pytest.approx(
        image["shifted_p"]["pearson"]["grad-cam|saliency"]
    )


def test_a_rank_is_exact_for_unrelated_maps_and_undefined_maps_are_no_others() -> None:
    values = torch.rand(40, 4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values[:20] = torch.nan
    p, among = place(values[:-1], values[-1], higher=True)
    assert set(among.tolist()) == {20}
    assert float((p <= 0.05).double().mean()) == pytest.approx(0.05, abs=0.01)
    assert float((place(values[:-1], values[-1], higher=False)[0] <= 0.5).double().mean()) == pytest.approx(
        0.5, abs=0.03
    )
    nothing = place(values[:-1], torch.full((4000,), torch.nan), higher=True)
    assert all(each.isnan().all() for each in nothing)


@pytest.mark.parametrize(
    ("p", "among", "rank", "said"),
    [
        (0.05, 20, 1, "above the others"),
        (0.1, 20, 2, "not told apart"),
        (1 / 19, 19, 1, "too few others (smallest p 0.053)"),
        (float("nan"), 0, None, "undefined"),
    ],
)
def test_a_place_in_words(p: float, among: int, rank: int | None, said: str) -> None:
    assert (Place(p, among).rank, Place(p, among).said) == (rank, said)


def test_one_photograph_is_ranked_among_a_reference(sample: ImageSet, tmp_path: Path) -> None:
    """The image itself is none of them; the rest of the selection takes no part."""
    model = small_classifier(SmallNet())
    images = xaicmp.load_images(sample.tensor[:2].float() / 255, model=None)
    result = xaicmp.compare(model, images, methods=list(NAMES), settings=Settings(MEASURED, controls="none"))
    assert result[AB].places("pearson") == []
    reference = xaicmp.load_images(sample.tensor[1:25].float() / 255)
    ranked = result.among(reference)
    own, others = (xaicmp.explain(model, each, methods=list(NAMES)).maps for each in (images, reference))
    for name in MEASURED:
        first, second = ranked[AB].places(name)
        assert (first.rank, first.among) == by_hand(name, own[0, 0], own[1, 0], others[1])
        assert (second.rank, second.among) == by_hand(name, own[0, 1], own[1, 1], others[1, 1:])
    ranked.save(path := tmp_path / "result.json")
    assert xaicmp.load(path)[AB].places("iou") == ranked[AB].places("iou")
    assert json.loads(path.read_text())["images"][0]["rank_among_others"]["ssim"]
    with pytest.raises(xaicmp.UsageError, match="another size"):
        result.among(xaicmp.load_images(torch.rand(3, 3, 16, 16)))
