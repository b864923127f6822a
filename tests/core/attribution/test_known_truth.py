"""Every method on a network whose true attribution is known: see docs/known-truth.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from known_truth import DECOY, PLACE, detector, images, mask, truth

import xaicmp
from xaicmp.core.attribution import METHODS
from xaicmp.core.studies.localisation import measures

PAGE = Path(__file__).parents[3] / "docs" / "known-truth.md"
SEEN, INSIDE = images(4), mask(4)
EXACT = ("input-x-gradient", "integrated-gradients", "deeplift")
"""They give each value what it adds to the logit."""
INSIDE_ALONE = (
    *("saliency", "smoothgrad", "smoothgrad-ig", "gradient-shap", "guided-backprop", "deconvolution"),
    *("deeplift-shap", "hirescam", "layercam", "guided-grad-cam", "lrp"),
)
"""They point at nothing but the template."""
COARSE = ("occlusion", "feature-ablation", "lime", "kernel-shap")
"""Patches and superpixels reach over the edges of the template, but not to the decoy."""
MISLED = ("grad-cam", "grad-cam++", "xgrad-cam", "eigen-cam", "score-cam", "ablation-cam")
"""One weight for a whole map: the decoy, which the network does not use, is the hottest."""
BLIND = ("random", "edge", "centre")
OTHERS = ("vargrad", "rise", "attention-rollout", "generic-attention")


def mass(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The maps, and the share of their relevance in the template and in the decoy."""
    (maps,) = xaicmp.explain(detector(), SEEN, methods=[name]).maps
    decoy = INSIDE.roll((DECOY[0] - PLACE[0], DECOY[1] - PLACE[1]), (1, 2))
    return maps, *(measures(maps, each, 0.2)["mass"].diagonal() for each in (INSIDE, decoy))


def test_the_logit_is_the_sum_of_the_truth_and_every_method_has_its_place() -> None:
    torch.testing.assert_close(detector()(SEEN)[:, 0], truth(SEEN).sum(dim=(1, 2, 3)))
    assert sorted((*EXACT, *INSIDE_ALONE, *COARSE, *MISLED, *BLIND, *OTHERS)) == sorted(METHODS)


@pytest.mark.parametrize("name", EXACT)
def test_these_give_the_truth(name: str) -> None:
    maps, _, _ = mass(name)
    torch.testing.assert_close(maps, truth(SEEN).sum(dim=1).clamp_min(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", INSIDE_ALONE)
def test_these_point_at_the_template_alone(name: str) -> None:
    _, inside, decoy = mass(name)
    assert inside == pytest.approx([1] * 4, abs=1e-5)
    assert decoy == pytest.approx([0] * 4, abs=1e-5)


@pytest.mark.parametrize("name", COARSE)
def test_these_find_it_coarsely(name: str) -> None:
    _, inside, decoy = mass(name)
    assert (inside > 0.2).all()
    assert (decoy < 0.1).all()


@pytest.mark.parametrize("name", MISLED)
def test_these_point_at_what_is_not_used(name: str) -> None:
    _, inside, decoy = mass(name)
    assert (decoy > inside).all()


def test_a_gradient_that_noise_does_not_change_has_no_variance() -> None:
    maps, inside, _ = mass("vargrad")
    assert inside.isnan().all() or maps.amax() < 1e-10


def test_rise_ranks_the_template_above_the_rest_on_average() -> None:
    maps, _, _ = mass("rise")
    assert measures(maps, INSIDE, 0.2)["auc"].diagonal().mean() > 0.55


def test_the_page_has_a_row_for_each_method() -> None:
    rows = re.findall(r"^\| ([\w+-]+) \| ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(rows) - {"method"} == set(METHODS) - {"attention-rollout", "generic-attention"}
