"""Do 95% intervals hold the truth 95% of the time, and are p-values uniform where nothing is there?

    python tests/benchmarks/calibration.py [--simulations 2000] [--images 30 100 1000]

The populations and simulations of ``tests/core/test_calibration.py``, with the resamples that the command uses.
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
from test_calibration import coverage, null_above_other_images, null_differences, population

from xaicmp.core.results.significance import flip_signs


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--images", type=int, nargs="+", default=[30, 100, 1000])
    options = parser.parse_args()
    console = Console()
    covered = Table("Statistic", "skewness", *(f"n = {n}" for n in options.images), box=box.SIMPLE_HEAD)
    covered.title = f"How often the 95% interval holds the truth, {options.simulations} simulations"
    for name in ("pearson", "spearman", "iou", "rbo"):
        cells = [f"{100 * coverage(name, n, options.simulations, None):.1f}%" for n in options.images]
        covered.add_row(name, f"{scipy.stats.skew(population(name)):.2f}", *cells)
    console.print(covered)
    uniform = Table(
        "Test of a difference that is not there", "n", "p < 0.05", "p < 0.01", "KS p", box=box.SIMPLE_HEAD
    )
    for n in options.images:
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


if __name__ == "__main__":
    main()
