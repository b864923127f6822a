"""Which methods find what a network with hand-set weights uses: the table of docs/known-truth.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20, help="images")
    count = parser.parse_args().n
    from known_truth import DECOY, PLACE, SIDE, detector, images, mask, truth

    import xaicmp
    from xaicmp.core.agreement.registry import pearson
    from xaicmp.core.attribution.selection import groups
    from xaicmp.core.studies.localisation import measures

    names = [name for family, of in groups().items() if family not in ("all", "attention") for name in of]
    seen, inside = images(count), mask(count)
    expected = truth(seen).sum(dim=1).clamp_min(0)
    decoy = mask(count).roll((DECOY[0] - PLACE[0], DECOY[1] - PLACE[1]), (1, 2))
    write = sys.stdout.write
    heads = (
        "method",
        "mass in the template",
        f"mass in the decoy, of {SIDE} x {SIDE}",
        "AUC",
        "Pearson with the truth",
    )
    write(f"| {' | '.join(heads)} |\n")
    write("|---|---|---|---|---|\n")
    for name in dict.fromkeys(names):
        (maps,) = xaicmp.explain(detector(), seen, methods=[name]).maps
        own, other = (measures(maps, each, 0.2) for each in (inside, decoy))
        values = own["mass"], other["mass"], own["auc"]
        cells = [f"{each.diagonal().nanmean():.3f}" for each in values]
        write(f"| {name} | {' | '.join(cells)} | {pearson(maps, expected).nanmean():.3f} |\n")


if __name__ == "__main__":
    main()
