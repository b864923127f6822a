"""Does an interval over draws and images hold the truth 95% of the time?

    python tests/benchmarks/draws.py [--simulations 2000]

The simulation of ``tests/core/results/test_crossed.py``: normal values whose draws (or checkpoints), images and rest
differ as much as said, in standard deviations. Beside the interval that is used stands that of resamples.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "results"))
from test_crossed import coverage, of_crossed, of_resamples

SPREADS = ((0.0, 1.0, 1.0), (0.1, 1.0, 0.5), (0.3, 0.3, 1.0), (1.0, 1.0, 1.0), (1.0, 0.1, 0.1))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=2000)
    simulations = parser.parse_args().simulations
    heads = ("/".join(f"{each:g}" for each in spreads) for spreads in SPREADS)
    table = Table("Draws", "Images", "Interval", *heads, box=box.SIMPLE_HEAD)
    for draws, images in ((2, 30), (3, 30), (5, 10), (5, 30), (5, 100), (10, 30)):
        for title, of in (("analysis of variance", of_crossed), ("resamples", of_resamples)):
            held = [100 * coverage(spreads, draws, images, simulations, of).mean() for spreads in SPREADS]
            table.add_row(str(draws), str(images), title, *(f"{share:.1f}%" for share in held))
    Console().print(table)


if __name__ == "__main__":
    main()
