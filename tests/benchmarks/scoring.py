"""What the statistics cost beside the explanations that they are about.

    python tests/benchmarks/scoring.py [--n 1000] [--images 4] [--model NAME --size 224]

Twenty methods explain a few images of the sample; their maps, repeated with noise to n images (which leaves
Grad-CAM's zeros, and so its ties), are compared in all pairs by the default statistics with the default controls,
and summarised with intervals and tests. Figures are seconds of the processor, on one thread; those of the
explanations are scaled to n images. With ``--model``, the published three methods of that network of torchvision or
timm with random weights, see ``explaining.py``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from explaining import subject_of
from small import compare, find_images

from xaicmp.core.attribution import METHODS, PUBLISHED, get_methods
from xaicmp.core.images.selection import Selection
from xaicmp.core.machine.devices import find_device
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.scoring import score

COSTLY = ("score-cam", "ablation-cam")
"""Hundreds of passes an image: with them, the share would be a fraction."""
T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and the processor's seconds."""
    started = time.process_time()
    return work(), time.process_time() - started


def repeated(few: Explanations, count: int) -> Explanations:
    """Their maps again and again, each time with other noise, as of ``count`` images."""
    rows = np.resize(np.arange(len(few.predictions)), count)
    torch.manual_seed(0)
    maps = few.maps[:, torch.from_numpy(rows)]
    maps *= 1 + 0.1 * torch.randn_like(maps)
    chosen = replace(few.predictions.rows(rows), ids=np.arange(count))
    gaps = {name: gap[rows] for name, gap in few.completeness.items()}
    return replace(
        few, predictions=chosen, pixels=few.pixels[torch.from_numpy(rows)], maps=maps, completeness=gaps
    )


def summarised(comparison: Comparison) -> None:
    """Every number of every pair."""
    for statistic in comparison.statistics:
        for pair in comparison.pairs:
            comparison.result(statistic, pair)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1000, help="images whose maps are compared")
    parser.add_argument("--images", type=int, default=4, help="images that are explained")
    parser.add_argument("--methods", nargs="+", help="others than all of one pass and of gradients")
    parser.add_argument("--model", help="another network than the shipped one, and the published methods")
    parser.add_argument("--size", type=int, default=224, help="of its images")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = [
        name for name, each in METHODS.items() if each.family in ("gradient", "cam") and name not in COSTLY
    ]
    default = PUBLISHED if arguments.model else [*names, "saliency:sum-abs"]
    methods = get_methods(arguments.methods or default)
    subject = subject_of(arguments.model, arguments.size, None, arguments.images)
    engine = Engine(subject.classifier, find_device("cpu"), layer=subject.layer)
    selection = Selection(n=arguments.images, only="all" if arguments.model else "correct")
    images, chosen = find_images(engine, selection, subject.images)
    compare(engine, images, chosen, methods[:2])  # what is imported and made once
    kept: list[Explanations] = []
    without = Settings(controls=())
    small, explaining = timed(lambda: compare(engine, images, chosen, methods, without, keep=kept.append))
    explaining *= arguments.n / len(chosen)
    many = repeated(Explanations.join(kept), arguments.n)
    scores, scoring = timed(lambda: score(many, Settings()))
    whole = replace(small, settings=Settings(), predictions=many.predictions, scores=scores)
    _, summing = timed(lambda: summarised(whole))
    table = Table(
        title=f"{len(methods)} methods, {len(whole.pairs)} pairs, {arguments.n} images",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("")
    for column in ("seconds", "of the explanations"):
        table.add_column(column, justify="right")
    for name, seconds in {
        f"explanations (of {len(chosen)} images, scaled)": explaining,
        "statistics and controls of every image": scoring,
        "means, intervals and tests": summing,
        "statistics together": scoring + summing,
    }.items():
        table.add_row(name, f"{seconds:.1f}", f"{seconds / explaining:.1%}")
    Console().print(table)


if __name__ == "__main__":
    main()
