"""Which images show how far methods agree."""

from __future__ import annotations

import numpy as np
import pytest
from small import compared

from xaicmp.core.attribution import PUBLISHED
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.results.picking import pick
from xaicmp.errors import UsageError


def test_images_are_picked_by_what_they_show(sample: ImageSet) -> None:
    comparison, _ = compared(sample, PUBLISHED, tuple(range(9)))
    values = comparison.scores.values["iou"]["grad-cam", "saliency"]
    by = "saliency,grad-cam:iou"
    assert values[pick(comparison, "agree", 3, by)].tolist() == sorted(values)[::-1][:3]
    assert values[pick(comparison, "disagree", 3, by)].tolist() == sorted(values)[:3]
    assert pick(comparison, "typical", 1, by).tolist() == [values.tolist().index(np.median(values))]
    means = comparison.mean_over_pairs("pearson")
    assert pick(comparison, "agree", 1).tolist() == [int(means.argmax())]
    assert sorted(pick(comparison, "random", 9)) == list(range(9))
    with pytest.raises(UsageError, match="pick_by rbo: give one of pearson, iou"):
        pick(comparison, "agree", 1, "rbo")
