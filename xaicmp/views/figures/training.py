"""Loss and accuracy by epoch."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xaicmp.views.figures.registry import Drawing, figure_kind


@figure_kind("training", "Loss and accuracy of the training by epoch", "training")
def training_figure(drawing: Drawing) -> Figure:
    """Loss and accuracy by epoch, side by side."""
    history, width = drawing.studies["training"], drawing.look.width or 7
    figure = Figure(figsize=(width, max(2.0, 0.4 * width)), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = [epoch["epoch"] for epoch in history]
    loss.plot(epochs, [epoch["loss"] for epoch in history], marker="o", color="C0")
    loss.set_ylabel("training loss")
    for name, colour, marker in (("train", "C0", "o"), ("test", "C1", "s")):
        values = [100 * epoch[f"{name}_accuracy"] for epoch in history]
        label = f"{name}ing".replace("testing", "test")
        accuracy.plot(epochs, values, marker=marker, color=colour, label=label)
    accuracy.set_ylabel("accuracy (%)")
    accuracy.legend()
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure
