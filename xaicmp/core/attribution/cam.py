"""Class activation maps: ReLU(sum_k w_k A_k), upsampled, where A_k are the feature maps of a layer.

A transformer's tokens are such maps too, except for the class token and registers. The methods differ in the weights w:
one per map, or one per value of it. Throughout, S_t is the logit of the target class and G_k = dS_t / dA_k. Both come
from the one pass that the gradient methods share. A_k and G_k are ``(h, w)``, attributions ``(N, H, W)``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from xaicmp.core.attribution.context import Context
from xaicmp.core.attribution.method import method
from xaicmp.core.attribution.propagation import guided_backprop
from xaicmp.core.models.layers import substitute, to_maps

cam = partial(method, family="cam", reduction="sum", needs="feature maps", needs_layer=True)


@cam("grad-cam", title="Grad-CAM", cost="2", paper='Selvaraju et al., "Grad-CAM", 2017')
def grad_cam(context: Context) -> Tensor:
    """w_k = mean of G_k."""
    maps, gradients = _maps(context)
    return _finish(gradients.mean(dim=(2, 3), keepdim=True) * maps, context)


@cam("grad-cam++", title="Grad-CAM++", cost="2", paper='Chattopadhay et al., "Grad-CAM++", 2018')
def grad_cam_plus_plus(context: Context) -> Tensor:
    """w_k = sum of a ReLU(G_k), a = G_k^2 / (2 G_k^2 + G_k^3 sum A_k): sum of g / (2 + g sum A_k), g = ReLU(G_k).

    The paper's weights (eq. 19, for the score exp(S_t)) are these times exp(S_t): the same factor for all, which
    could overflow. Like the paper, it means maps that follow a ReLU; where sum A_k < 0, a can have a pole.
    """
    maps, gradients = _maps(context)
    rising = gradients.relu()
    weights = rising / (2 + rising * maps.sum(dim=(2, 3), keepdim=True))
    return _finish(weights.sum(dim=(2, 3), keepdim=True) * maps, context)


@cam(
    "hirescam", title="HiResCAM", cost="2", paper='Draelos & Carin, "Use HiResCAM instead of Grad-CAM", 2020'
)
def hirescam(context: Context) -> Tensor:
    """w_k = G_k, value by value."""
    maps, gradients = _maps(context)
    return _finish(gradients * maps, context)


@cam("layercam", title="LayerCAM", cost="2", paper='Jiang et al., "LayerCAM", 2021')
def layercam(context: Context) -> Tensor:
    """w_k = ReLU(G_k), value by value."""
    maps, gradients = _maps(context)
    return _finish(gradients.relu() * maps, context)


@cam("xgrad-cam", title="XGrad-CAM", cost="2", paper='Fu et al., "Axiom-based Grad-CAM", 2020')
def xgrad_cam(context: Context) -> Tensor:
    """w_k = sum of A_k G_k / sum of A_k; 0 for a map that sums to nothing."""
    maps, gradients = _maps(context)
    total = maps.sum(dim=(2, 3), keepdim=True)
    weights = (maps * gradients).sum(dim=(2, 3), keepdim=True) / total
    return _finish(weights.where(total != 0, 0) * maps, context)


@cam("eigen-cam", title="Eigen-CAM", cost="2", paper='Muhammad & Yeasin, "Eigen-CAM", 2020')
def eigen_cam(context: Context) -> Tensor:
    """w = the first right singular vector of A as a matrix (pixels, K); it does not depend on the target.

    Not centred, as in the paper. The sign of a singular vector is arbitrary; taken is the one that makes the map's sum
    positive, so that maps without negative values give a map without.
    """
    maps, _ = _maps(context)
    weights = torch.linalg.svd(maps.flatten(2), full_matrices=False).U[:, :, :1, None]
    weighted = weights * maps
    return _finish(weighted * weighted.sum(dim=(1, 2, 3), keepdim=True).sign(), context)


@cam("score-cam", title="Score-CAM", cost="1 a channel", paper='Wang et al., "Score-CAM", 2020')
def score_cam(context: Context) -> Tensor:
    """w = softmax over k of S_t(x * H_k), where H_k is A_k upsampled and scaled to [0, 1].

    The score of the paper's baseline image cancels in the softmax. Constant maps hide nothing and get no weight,
    as in the authors' code.
    """
    maps, _ = _maps(context)
    varied = maps.amax(dim=(2, 3)) > maps.amin(dim=(2, 3))

    def masked(image: Tensor, channel: Tensor) -> Tensor:
        mask = upsample(maps[image, channel][:, None], context.images)
        low, high = mask.amin(dim=(2, 3), keepdim=True), mask.amax(dim=(2, 3), keepdim=True)
        return context.model(context.images[image] * (mask - low) / (high - low))

    scores = _scores(context, varied, masked)
    weights = scores.masked_fill(~varied, -torch.inf).softmax(dim=1).nan_to_num()
    return _finish(weights[:, :, None, None] * maps, context)


@cam(
    "ablation-cam", title="Ablation-CAM", cost="1 a channel", paper='Desai & Ramaswamy, "Ablation-CAM", 2020'
)
def ablation_cam(context: Context) -> Tensor:
    """w_k = S_t - S_t with A_k set to zero.

    The paper divides by S_t: the same factor for all k, which would reverse the map's sign where S_t is negative. If
    the score depends on the input through these maps alone, only what follows the layer is run for each of them.
    """
    output, (activations, _) = context.at_layer.output, _seen(context)
    assert output is not None

    def ablated(image: Tensor, channel: Tensor) -> Tensor:
        rest = output[image]
        maps = to_maps(rest, context.images.shape[2:])
        assert maps is not None
        maps[torch.arange(len(image)), channel] = 0
        with substitute(context.model, context.layer, rest):
            return context.model(context.images[:1] if decisive else context.images[image])

    alive = (activations != 0).any(dim=3).any(dim=2)
    score = context.at_layer.logits.float().gather(1, context.targets[:, None])
    with context.shared_precision():  # that of the score, or a drop would be the difference of two roundings
        decisive = _decisive(context, output)
        drops = score - _scores(context, alive, ablated)  # what is zero already stays zero
    return _finish(drops[:, :, None, None] * activations.float(), context)


@cam(
    "guided-grad-cam",
    title="Guided Grad-CAM",
    reduction="max-abs",
    needs="feature maps, ReLUs",
    cost="4",
    paper='Selvaraju et al., "Grad-CAM", 2017',
)
def guided_grad_cam(context: Context) -> Tensor:
    """Guided backpropagation times Grad-CAM, pixel by pixel."""
    where = grad_cam(context)
    guided = guided_backprop(context.model, context.images.clone().requires_grad_(), context.targets)
    return where[:, None] * guided


def _seen(context: Context) -> tuple[Tensor, Tensor]:
    """The layer's feature maps and the gradients by them, both ``(N, K, h, w)``, as the model computes."""
    shared = context.at_layer
    assert shared.activations is not None and shared.gradients is not None
    return shared.activations, shared.gradients


def _maps(context: Context) -> tuple[Tensor, Tensor]:
    """The same in float32."""
    maps, gradients = _seen(context)
    return maps.float(), gradients.float()


def _finish(weighted: Tensor, context: Context) -> Tensor:
    """``(N, K, h, w)``, summed, rectified and upsampled to ``(N, H, W)``."""
    return upsample(weighted.sum(dim=1, keepdim=True).relu(), context.images)[:, 0]


def upsample(maps: Tensor, images: Tensor) -> Tensor:
    """To the images' resolution, bilinearly."""
    return interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=False)


def _scores(context: Context, chosen: Tensor, run: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The target's logit in ``run(image, channel)`` for each pair that is ``chosen``, in as few passes as possible.

    Args:
        context: has the targets.
        chosen: bool ``(N, K)``.
        run: rows of images and of channels, both ``(B,)``, to logits ``(B, classes)``.

    Returns:
        float32 ``(N, K)``, 0 where not chosen.
    """
    scores = torch.zeros(chosen.shape, device=chosen.device)
    pairs, done = chosen[: context.count].nonzero(), 0  # not for the double of a lone image
    for part in pairs.split(max(context.batch_size, len(context))):
        image, channel = part.unbind(dim=1)
        with torch.no_grad():
            logits = run(image, channel)
        scores[image, channel] = logits.float().gather(1, context.targets[image, None])[:, 0]
        done += len(part)
        context.report(done, len(pairs))
    return scores


def _decisive(context: Context, output: Tensor) -> bool:
    """Whether the logits depend on the input through the layer's ``output`` alone: a blank image with it has the same."""
    try:
        with torch.no_grad(), substitute(context.model, context.layer, output):
            logits = context.model(torch.zeros_like(context.images[:1]))
    except RuntimeError:  # the maps of many images meet others of one
        return False
    wanted = context.at_layer.logits
    scale = 1e-5 * wanted.abs().max().item()
    return logits.shape == wanted.shape and torch.allclose(logits, wanted, rtol=0, atol=scale)
