"""Do the maps of two methods belong together, image by image? A permutation test of the pairing.

Held against mean_i s(A_i, B_i) is mean_i s(A_i, B_pi(i)) over permutations pi of the images (Mantel, 1967). Its null
is sharper than that of the paired test: not "equal on average" but "B's maps could be exchanged among the images".
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

EXACT = 7
"""Up to so many images every permutation is taken."""

PERMUTATIONS = 9_999
"""Random permutations of more images."""

CELLS = 1_000_000
"""Values in memory at once, beside those of all pairs of images."""


def pairing_p(values: np.ndarray, higher: bool = True, seed: int = 0) -> float:
    """How often permuted images agree as well as paired ones do.

    Args:
        values: float64 ``(N, N)``, the statistic of A's map of each image with B's of each, NaN where undefined;
            images without a value of their own take no part.
        higher: whether higher is more agreement.
        seed: of the permutations.

    Returns:
        the share of all permutations, or (1 + their number) / (1 + ``PERMUTATIONS``) of random ones; NaN for fewer
        than two images.
    """
    kept = ~np.isnan(values.diagonal())
    values = (values if higher else -values)[kept][:, kept]
    if len(values) < 2:
        return float("nan")
    # Sums in another order, and products of other sizes, are the same but for rounding.
    flat, least = values.ravel(), values.trace() - 1e-12 * len(values)
    count = made = 0
    for chosen in _permuted(len(values), seed):
        count += int((flat[chosen].sum(axis=1) >= least).sum())
        made += len(chosen)
    return count / made if len(values) <= EXACT else (1 + count) / (1 + made)


def _permuted(images: int, seed: int) -> Iterator[np.ndarray]:
    """Where the values of permuted images lie in a flat matrix, ``(permutations, images)`` at a time."""
    own, rng, step = np.arange(images), np.random.default_rng(seed), max(1, CELLS // images)
    if images <= EXACT:
        yield np.array(list(permutations(range(images)))) + images * own
        return
    for start in range(0, PERMUTATIONS, step):
        rows = np.broadcast_to(own, (min(step, PERMUTATIONS - start), images))
        yield rng.permuted(rows, axis=1) + images * own
