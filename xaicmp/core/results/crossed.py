"""A mean over images and over draws of something random, each image seen under each draw."""

from __future__ import annotations

import numpy as np

from xaicmp.core.results.significance import LEAST, lowest_p


def crossed(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float, float]:
    """Mean, interval and two-sided p of mean 0, where both other images and other draws might have been had.

    With x_di = m + a_d + b_i + e_di, the mean's variance is s_a^2 / D + s_b^2 / N + s_e^2 / DN, estimated from the
    means of the draws, those of the images and the rest (Cornfield and Tukey, 1956), with Satterthwaite's degrees of
    freedom (1946). With one draw it is Student's t over the images, and speaks of that draw alone. Where all values are
    the same they say nothing of a variance, and p is the lowest that signs flipped by image can give.

    Args:
        values: float64 ``(D, N)``, NaN where undefined; draws and images without any value take no part.
        level: of the interval.

    Returns:
        mean, low, high, p; all but the mean NaN for fewer than two images, and the mean without values.
    """
    known = ~np.isnan(values)
    values = values[known.any(axis=1)][:, known.any(axis=0)]
    draws, images = values.shape
    if images == 0:
        return (float("nan"),) * 4
    mean = float(np.nanmean(values))
    if images < 2:
        return mean, *(float("nan"),) * 3
    by_draw, by_image = np.nanmean(values, axis=1, keepdims=True), np.nanmean(values, axis=0, keepdims=True)
    free = np.array([max(draws - 1, 1), images - 1, max((draws - 1) * (images - 1), 1)])
    squares = [(by_draw - mean) ** 2, (by_image - mean) ** 2, (values - by_draw - by_image + mean) ** 2]
    counts = (draws, images, known.sum())
    parts = np.array([np.nansum(each) for each in squares]) / free / counts
    if draws == 1:
        parts[0] = parts[2] = 0
    variance = max(parts[0] + parts[1] - parts[2], *parts[:2])
    if variance <= (1e-12 * mean) ** 2:  # the same but for rounding
        return mean, mean, mean, lowest_p(images, two_sided=True) if mean else 1.0
    from scipy.stats import t  # here, for it takes most of a second to import

    degrees = 1 / ((parts / variance) ** 2 / free).sum()  # of the ratios, because squares may leave float64
    spread = t(degrees, scale=np.sqrt(variance))
    reach = spread.isf((1 - level) / 2)
    return mean, mean - reach, mean + reach, max(LEAST, float(2 * spread.sf(abs(mean))))


def variance_shares(values: np.ndarray) -> tuple[float, float, float]:
    """How much of the variance of single values ``(D, N)`` is of the draws, of the images, and of neither alone.

    The components of a two-way analysis of variance with both random, from its mean squares (Searle et al., 1992):
    s_a^2 = (MS_a - MS_e) / N, s_b^2 = (MS_b - MS_e) / D and s_e^2 = MS_e, none below 0. Images that are undefined in
    a draw take no part.

    Returns:
        shares that add up to 1; NaN for fewer than two draws or images, and where all values are the same.
    """
    values = values[:, ~np.isnan(values).any(axis=0)]
    draws, images = values.shape
    if min(draws, images) < 2 or np.ptp(values) == 0:
        return (float("nan"),) * 3
    by_draw, by_image = values.mean(axis=1, keepdims=True), values.mean(axis=0)
    rest = ((values - by_draw - by_image + values.mean()) ** 2).sum() / ((draws - 1) * (images - 1))
    own = max(float(by_draw.var(ddof=1) - rest / images), 0.0)
    theirs = max(float(by_image.var(ddof=1) - rest / draws), 0.0)
    whole = own + theirs + float(rest)
    return own / whole, theirs / whole, float(rest) / whole
