"""The network that a training starts from."""

from __future__ import annotations

from dataclasses import replace

import torch

from xaicmp.core.models.classifier import Classifier
from xaicmp.core.models.guard import unchanged
from xaicmp.core.models.loading import UNTRAINED, Remark, load_network
from xaicmp.core.models.outputs import Adapted, is_plain, with_logits
from xaicmp.core.models.sources import find_source
from xaicmp.core.training.recipe import Run
from xaicmp.errors import UsageError, XaicmpError, arg, told

ANY_SIZE = (224, 224)
"""The size of images if neither the network nor the user names one."""


def starting_network(
    run: Run,
    classes: int,
    size: tuple[int, int] | None = None,
    remark: Remark = lambda message: None,
) -> Classifier:
    """The network of ``run`` with an output for each class: random, or with all the trained weights but its head's.

    Args:
        run: its ``architecture``, ``weights`` and ``seed`` count.
        classes: how many there are.
        size: height and width of the images; by default what the network says.
        remark: told what was assumed of the weights, and which are new.

    Raises:
        UsageError: there is no such network or weights.
        XaicmpError: the weights cannot be had or do not fit, or the network gives no logits of so many classes.
    """
    remark, found = told(remark), _new(run, None)
    trained = (
        None if run.weights in (None, UNTRAINED) else load_network(run.architecture, run.weights, remark)
    )
    found = replace(found, input_size=size or found.input_size or ANY_SIZE)
    size = found.input_size or ANY_SIZE
    found, count = _trainable(found, size)
    if count != classes:
        found, count = _trainable(replace(_new(run, classes), input_size=size), size)
        if count != classes:
            raise XaicmpError(
                f"{arg('model')} {run.architecture} puts out {count} logits for {classes} classes; "
                "it needs one per class"
            )
    if trained is not None:
        if not trained.provenance.get("weights"):
            raise UsageError(
                f"{arg('weights')} {run.weights}: {run.architecture} has no weights of that name; give a file"
            )
        own, given = found.module.state_dict(), trained.module.state_dict()
        kept = {name: given[name] for name in own if name in given and given[name].shape == own[name].shape}
        found.module.load_state_dict(kept, strict=False)
        new = [name for name in own if name not in kept]
        remark(
            f"trained weights but for {', '.join(new[:4])}, which are new" if new else "all weights trained"
        )
        found = replace(trained, module=found.module)
    return replace(found, input_size=size)


def _new(run: Run, classes: int | None) -> Classifier:
    """The network with random weights, which depend on the seed alone."""
    source, rest = find_source(run.architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return source(rest, None, classes)


def _trainable(network: Classifier, size: tuple[int, int]) -> tuple[Classifier, int]:
    """The network, given copies of its images if it must have them, and how many logits it puts out."""
    example = torch.zeros(2, 3, *size).contiguous(memory_format=torch.channels_last)  # as it is trained on
    module = with_logits(network.module, example)
    own, given = (module.inner, example.contiguous()) if isinstance(module, Adapted) else (module, example)
    with unchanged(own) as lent, torch.no_grad():
        output = lent(given)
    if not is_plain(output):
        raise UsageError(
            f"{arg('model')} {network.name} puts out no plain logits; train one that gives (N, C)"
        )
    return replace(network, module=module), output.shape[1]
