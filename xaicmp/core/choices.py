"""The names that can be chosen from, for the command line and for type checkers. Nothing heavy is imported here.

Where a registry says what a name means, a test holds that both have the same names in the same order.
"""

from __future__ import annotations

from typing import Literal, get_args

# Which images ``n`` counts.
Only = Literal["correct", "wrong", "all"]
# How channels and signs become one value per pixel: ``attribution.method.REDUCTIONS``.
Reduction = Literal["max-abs", "sum", "sum-abs", "l2", "positive"]
# Where Integrated Gradients looks on its way from the baseline: ``attribution.gradient.RULES``.
Rule = Literal["right", "left", "middle", "trapezoid", "gauss-legendre"]
# Where Integrated Gradients and DeepLIFT start from: ``attribution.gradient.baselines_of``.
Baseline = Literal["zero", "black", "blur", "random"]
# How far two maps agree: ``agreement.statistic.STATISTICS``.
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
    "feature-agreement",
    "rank-agreement",
    "sign-agreement",
    "signed-rank-agreement",
    "pairwise-rank-agreement",
]
# What agreement is held against: ``agreement.controls.CONTROLS``, or nothing.
Control = Literal["other-image", "shift", "resolution", "other-class", "none"]
# What images are grouped by.
By = Literal["class", "correct", "confidence", "method"]
# How the layers of the model are re-initialised.
Randomise = Literal["cascading", "independent"]
# What of an agreement is held against its bound: the mean, or the worse end of its interval.
FailOn = Literal["mean", "ci"]
# How a map is drawn: over its image, or by itself.
Style = Literal["overlay", "map"]
# What shares one scale of colours: nothing, the maps of a method, or all.
Scale = Literal["image", "method", "shared"]
# What figures are drawn for: white paper, or a dark screen.
Theme = Literal["light", "dark"]
# Which images a figure shows: those on which methods agree most or least, those nearest the median, or any.
Pick = Literal["agree", "disagree", "typical", "random"]
# What a network computes in.
Precision = Literal["float32", "bf16"]
# How a network is trained: ``training.recipe.RECIPES``.
RecipeName = Literal["muon", "sgd", "published", "adamw", "finetune"]
# The learning rate's way through the training.
Schedule = Literal["one-cycle", "constant"]
# Which images are flipped: each every other epoch, half of them at random, or none.
Flip = Literal["alternating", "random", "none"]
# What ``train`` trains on.
Dataset = Literal["cifar10", "cifar100", "folder"]
# Type of the stored weights.
Store = Literal["float32", "float16"]
# How photographs are resized.
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
INTERPOLATIONS = get_args(Interpolation)
