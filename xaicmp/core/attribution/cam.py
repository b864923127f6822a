"""Class activation maps: weighted sums of a layer's feature maps."""

from __future__ import annotations

from captum.attr import LayerGradCam
from torch import Tensor, nn
from torch.nn.functional import interpolate

from xaicmp.core.attribution.registry import method
from xaicmp.core.errors import XaicmpError


@method(
    "grad-cam",
    title="Grad-CAM",
    family="cam",
    reduction="ReLU of the weighted sum over channels, upsampled bilinearly",
    cost="2",
    paper='Selvaraju et al., "Grad-CAM", 2017',
)
def grad_cam(model: nn.Module, images: Tensor, targets: Tensor, *, layer: str = "layer4") -> Tensor:
    """ReLU(sum_k a_k A_k), where A_k are the layer's feature maps and a_k the mean of dS_t / dA_k over them.

    Args:
        model, images, targets: as for every method.
        layer: the name of the module whose output is weighted.

    Raises:
        XaicmpError: no such layer, or its output is 1x1, where every map would be constant.
    """
    try:
        module = model.get_submodule(layer)
    except AttributeError as error:
        raise XaicmpError(f"Grad-CAM: the model has no layer {layer!r}") from error
    maps = LayerGradCam(model, module).attribute(images, target=targets, relu_attributions=True)
    if maps.ndim != 4 or maps[0, 0].numel() == 1:
        raise XaicmpError(
            f"Grad-CAM: the output of {layer!r} has no spatial extent, so every map would be constant; "
            "choose an earlier layer or larger images"
        )
    return interpolate(maps.detach().float(), size=images.shape[-2:], mode="bilinear", align_corners=False)[
        :, 0
    ]
