"""Explaining and comparing within an amount of memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from xaicmp.core.attribution import Method
from xaicmp.core.images.cifar10 import load_sample
from xaicmp.core.images.selection import Selection
from xaicmp.core.machine.memory import watch_saved
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.explaining import explain_selection
from xaicmp.core.run.scoring import BLOCK
from xaicmp.errors import XaicmpError

MARGIN = 2.0

"""Bytes that an image takes for each that autograd keeps of it: gradients and copies on the way."""

HELD = 12

"""Bytes for each pixel of the maps of a block: float32, and what a statistic makes of it."""

SLACK = 160 * 1000**2

"""Bytes for the data set, for modules imported on the way, and for what the allocator does not give back."""


def keep_within(engine: Engine, selection: Selection, methods: Sequence[Method], budget: int) -> None:
    """Make the engine work on no more images at once than ``budget`` bytes will do for, if that is less.

    They are those of the process (on a CPU) or those allocated on the device (CUDA). Two images of the sample are
    explained to see what one takes.

    Raises:
        XaicmpError: there is too little for one image.
    """
    asked, engine.room.most = engine.room.most, 2
    two = Selection(ids=(0, 1), only="all")
    with watch_saved(engine.model, engine.checkpoint.model) as saved:
        for images, _ in explain_selection(engine, two, methods, data=load_sample()):
            pixels = images.pixels[0, 0].numel()
    image = int(MARGIN * saved() / 2)
    if engine.device.type == "cuda":
        taken = torch.cuda.max_memory_allocated(engine.device)
    else:
        taken = _peak() + SLACK + HELD * len(methods) * pixels * min(selection.count, BLOCK)
    batch = (budget - taken) // image
    if batch < 1:
        raise XaicmpError(
            f"--memory: {-(-(taken + image) // 1000**2)}MB are needed to explain one image at a time; give as much"
        )
    engine.room.most = min(asked, batch)


def _peak() -> int:
    """The most bytes that were resident in this process so far."""
    import sys

    try:
        import resource
    except ImportError as error:
        raise XaicmpError("--memory: Windows does not say how much is used; give --batch-size") from error
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
