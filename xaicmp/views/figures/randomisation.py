"""Agreement with the trained model, by re-initialised stage."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from xaicmp.core.agreement.registry import get_statistics
from xaicmp.core.studies.randomisation import STATISTICS, is_dead
from xaicmp.views.figures.layout import legend, panels_of
from xaicmp.views.figures.registry import Drawing, figure_kind
from xaicmp.views.figures.style import of_method


@figure_kind(
    "randomisation", "Agreement with the trained model's maps by re-initialised stage", "randomisation"
)
def randomisation_figure(drawing: Drawing) -> Figure:
    """Agreement with the trained model's map by stage, each method a curve; dashed, with its map of another image."""
    found, titles = drawing.studies["randomisation"], drawing.comparison.titles
    statistics = [each for each in get_statistics(STATISTICS) if each.name in found]
    figure, panels = panels_of(drawing.look.width or 9, len(statistics))
    at = np.arange(len(found["stages"]))
    for axes, statistic in zip(panels, statistics, strict=True):
        for index, each in enumerate(found[statistic.name]):
            look = of_method(index) | {"markersize": 4}
            means, controls = (np.array(each[key], dtype=float) for key in ("stages", "other_image"))
            axes.plot(at, means, label=titles[each["method"]], **look)
            axes.plot(at, controls, **look | {"marker": "", "linestyle": "--", "linewidth": 0.9})
        dead = is_dead(np.array(found["image_share"], dtype=float))
        stages = [f"{stage}{' (dead)' * gone}" for stage, gone in zip(found["stages"], dead, strict=True)]
        axes.set_xticks(at, stages, rotation=60, ha="right", fontsize=8)
        axes.label_outer()
        axes.margins(x=0.02)
        axes.set_title(statistic.title(drawing.comparison.top))
    figure.supylabel("agreement with the trained model's map\n(dashed: of another image)", fontsize=9)
    figure.supxlabel(f"re-initialised stage ({found['kind']})", fontsize=9)
    legend(figure, panels[0])
    return figure
