"""Loss and accuracy by epoch."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xaicmp.views.figures.registry import Drawing, figure_kind
from xaicmp.views.figures.style import of_method


@figure_kind("training", "Loss and accuracy of the training by epoch", "training")
def training_figure(drawing: Drawing) -> Figure:
    """Loss and accuracy by epoch, side by side."""
    history, width = drawing.studies["training"], drawing.look.width or 7
    figure = Figure(figsize=(width, max(2.0, 0.4 * width)), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = [epoch["epoch"] for epoch in history]
    loss.plot(epochs, [epoch["loss"] for epoch in history], **of_method(0))
    loss.set_ylabel("training loss")
    for index, (key, label) in enumerate({"train_accuracy": "training", "test_accuracy": "test"}.items()):
        accuracy.plot(epochs, [100 * epoch[key] for epoch in history], label=label, **of_method(index))
    accuracy.set_ylabel("accuracy (%)")
    accuracy.legend()
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure
