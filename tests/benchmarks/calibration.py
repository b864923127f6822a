"""Do 95% intervals hold the truth 95% of the time, and are p-values uniform where nothing is there?

    python tests/benchmarks/calibration.py [--simulations 2000] [--images 3 5 10 29 30 100]

The populations and simulations of ``tests/core/results/test_calibration.py``, with the resamples that the command uses.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import scipy.stats
from rich import box
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "results"))
from test_calibration import (
    bootstrapped,
    coverage,
    false_above,
    null_above_other_images,
    null_differences,
    population,
    share_found,
)

from xaicmp.core.results.intervals import interval, summarise_share
from xaicmp.core.results.significance import flip_signs


def share_coverage(n: int) -> np.ndarray:
    """How often the interval of a share of ``n`` images holds it, exactly, for shares from 1% to 99%."""
    counts = np.arange(n + 1)
    found = [summarise_share(np.repeat([1.0, 0.0], [yes, n - yes])) for yes in counts]
    shares = np.arange(1, 100)[:, None] / 100
    held = (np.array([each.low for each in found]) <= shares) & (
        shares <= np.array([each.high for each in found])
    )
    return (scipy.stats.binom.pmf(counts, n, shares) * held).sum(axis=1)


def powers(simulations: int, share: float = 0.1) -> Table:
    """How often the paired test and that of the pairing find what maps have in common, and what they have not."""
    table = Table("Maps", "n", "paired test", "pairing", box=box.SIMPLE_HEAD)
    table.title = f"p < 0.05 in so many of {simulations} simulations"
    for title, common in (("unrelated", 0.0), (f"{100 * share:g}% of the other's in one", share)):
        for images in (5, 10, 30, 60):
            found = share_found(images, common, simulations)
            table.add_row(title, str(images), *(f"{100 * each:.1f}%" for each in found))
    return table


def many_pairs(simulations: int) -> Table:
    """How many of many pairs are called above another image's map though none is, and how many after Holm."""
    table = Table("Pairs", "p < 0.05", "adjusted", "any adjusted", box=box.SIMPLE_HEAD)
    table.title = (
        f"Pairs said to be above another image's map where none is, mean of {simulations} simulations"
    )
    for pairs in (3, 45, 406):
        found = false_above(pairs, simulations)
        counts = (f"{each:.2f}" for each in found.mean(axis=0))
        table.add_row(str(pairs), *counts, f"{100 * (found[:, 1] > 0).mean():.1f}%")
    return table


def main() -> None:
    """Print four tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--images", type=int, nargs="+", default=[3, 5, 10, 29, 30, 100])
    options = parser.parse_args()
    console = Console()
    covered = Table("Statistic", "skewness", *(f"n = {n}" for n in options.images), box=box.SIMPLE_HEAD)
    covered.title = f"How often the 95% interval holds the truth, {options.simulations} simulations"
    for name in ("pearson", "spearman", "iou", "iou@5%", "rbo"):
        for title, of in ((name, interval), (f"{name}, BCa at any n", bootstrapped)):
            cells = [f"{100 * coverage(name, n, options.simulations, of):.1f}%" for n in options.images]
            covered.add_row(title, f"{scipy.stats.skew(population(name)):.2f}", *cells)
    for title, of_share in (("share, lowest over shares", np.min), ("share, mean over shares", np.mean)):
        cells = [f"{100 * of_share(share_coverage(n)):.1f}%" for n in options.images]
        covered.add_row(title, "", *cells)
    console.print(covered)
    uniform = Table(
        "Test of a difference that is not there", "n", "p < 0.05", "p < 0.01", "KS p", box=box.SIMPLE_HEAD
    )
    for n in (each for each in options.images if each >= 10):
        differences = null_differences(n, options.simulations)
        rows: dict[str, tuple[np.ndarray, bool]] = {"two pairs, two-sided": (differences, True)}
        if n <= 100:
            one, both = null_above_other_images(n, options.simulations)
            rows["above all other images, one-sided"] = (both, False)
            rows["the same, floor of one method only"] = (one, False)
        for name, (values, two_sided) in rows.items():
            p = flip_signs(values, two_sided=two_sided)
            ks = scipy.stats.kstest(p, "uniform").pvalue
            uniform.add_row(
                name,
                str(n),
                f"{100 * (p < 0.05).mean():.1f}%",
                f"{100 * (p < 0.01).mean():.1f}%",
                f"{ks:.2g}",
            )
    console.print(uniform)
    console.print(powers(options.simulations))
    console.print(many_pairs(options.simulations // 10))


if __name__ == "__main__":
    main()
