"""Methods that follow the gradient of the class score to the input."""

from __future__ import annotations

from captum.attr import IntegratedGradients, Saliency
from torch import Tensor, nn

from xaicmp.core.attribution.registry import method
from xaicmp.core.errors import UsageError


@method(
    "saliency",
    title="Saliency",
    family="gradient",
    reduction="max over channels of |gradient|",
    cost="2",
    paper='Simonyan et al., "Deep Inside Convolutional Networks", 2014',
)
def saliency(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """max_c |dS_t / dx_c|, where S_t is the logit of the target class."""
    return Saliency(model).attribute(images, target=targets, abs=True).amax(dim=1)


@method(
    "integrated-gradients",
    title="IG",
    family="gradient",
    reduction="sum over channels, negative part dropped",
    cost="2 a step",
    paper='Sundararajan et al., "Axiomatic Attribution for Deep Networks", 2017',
)
def integrated_gradients(
    model: nn.Module, images: Tensor, targets: Tensor, *, steps: int = 32, batch_size: int = 64
) -> Tensor:
    """max(0, sum_c x_c / m * sum_k dS_t(k/m * x) / dx_c), k = 1..m: right Riemann sum from the zero image.

    Args:
        model, images, targets: as for every method.
        steps: m, at least 2.
        batch_size: the most images in one pass through the model, unless more are given.

    Raises:
        UsageError: fewer than 2 steps, which Captum does not take.
    """
    if steps < 2:
        raise UsageError(f"--ig-steps {steps}: Integrated Gradients needs 2 steps or more")
    # In float64 the sum does not depend on how the steps fall into batches. MPS has none.
    summed = images.detach() if images.device.type == "mps" else images.detach().double()
    attributions = IntegratedGradients(lambda scaled: model(scaled.to(images.dtype))).attribute(
        summed,
        baselines=0,
        target=targets,
        n_steps=steps,
        method="riemann_right",
        internal_batch_size=max(batch_size, len(images)),
    )
    return attributions.sum(dim=1).clamp_min(0)
