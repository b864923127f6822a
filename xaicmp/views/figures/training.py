"""Loss and accuracy by epoch."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xaicmp.core.training.loop import Epoch
from xaicmp.views.figures.registry import figure_kind


@figure_kind("training")
def history_figure(history: Sequence[Epoch]) -> Figure:
    """Loss and accuracy by epoch, side by side."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = [epoch.epoch for epoch in history]
    loss.plot(epochs, [epoch.loss for epoch in history], marker="o", color="C0")
    loss.set_ylabel("training loss")
    for name, values, colour in (
        ("training", [epoch.train_accuracy for epoch in history], "C0"),
        ("test", [epoch.test_accuracy for epoch in history], "C1"),
    ):
        accuracy.plot(epochs, [100 * value for value in values], marker="o", color=colour, label=name)
    accuracy.set_ylabel("accuracy (%)")
    accuracy.legend(frameon=False)
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.spines[["top", "right"]].set_visible(False)
    return figure
