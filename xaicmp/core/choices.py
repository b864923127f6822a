"""The names that can be chosen from, for the command line and for type checkers. Nothing heavy is imported here.

Where a registry says what a name means, a test holds that both have the same names in the same order.
"""

from __future__ import annotations

from typing import Literal

Only = Literal["correct", "wrong", "all"]

"""Which images ``n`` counts."""

Reduction = Literal["max-abs", "sum", "sum-abs", "l2", "positive"]

"""How channels and signs become one value per pixel: ``attribution.method.REDUCTIONS``."""

Rule = Literal["right", "left", "middle", "trapezoid", "gauss-legendre"]

"""Where Integrated Gradients looks on its way from the baseline: ``attribution.gradient.RULES``."""

Baseline = Literal["zero", "black", "blur", "random"]

"""Where Integrated Gradients and DeepLIFT start from: ``attribution.gradient.baselines_of``."""

Statistic = Literal[
    "pearson",
    "spearman",
    "kendall",
    "cosine",
    "ssim",
    "iou",
    "rbo",
    "mass-overlap",
    "jensen-shannon",
    "sign",
]

"""How far two maps agree: ``agreement.registry.STATISTICS``."""

Control = Literal["other-image", "shift", "resolution", "none"]

"""What agreement is held against: ``run.scoring.CONTROLS``."""

By = Literal["class", "correct", "confidence", "method"]

"""What images are grouped by."""

Randomise = Literal["cascading", "independent"]

"""How the layers of the model are re-initialised."""

Precision = Literal["float32", "bf16"]

"""What a network computes in."""

RecipeName = Literal["muon", "sgd", "published"]

"""How a network is trained: ``training.recipe.RECIPES``."""

Schedule = Literal["one-cycle", "constant"]

"""The learning rate's way through the training."""

Flip = Literal["alternating", "random"]

"""Which images are flipped: each every other epoch, or half of them at random."""

Store = Literal["float32", "float16"]

"""Type of the stored weights."""
