"""Attention methods: how much of each patch gets, from layer to layer, into the tokens that the score is read from.

A_l is the attention of layer l, ``(N, heads, T, T)``: rows attend to columns. Within ``Rules``, torch's fused attention
is computed step by step, so that A_l is seen. The tokens that the score is read from are those in whose row it has a
slope by the last layer's attention: the class token, or all patches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from xaicmp.core.attribution.cam import upsample
from xaicmp.core.attribution.method import method
from xaicmp.core.attribution.rules import Function, Rules
from xaicmp.core.models.layers import to_maps
from xaicmp.errors import XaicmpError

attention = partial(
    method, family="attention", reduction="sum", needs="global attention", cost="2", needs_layer=True
)


@attention(
    "attention-rollout",
    title="Attention Rollout",
    paper='Abnar & Zuidema, "Quantifying Attention Flow in Transformers", 2020',
)
def attention_rollout(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """The product over l of (1 + mean over heads of A_l) / 2; it does not depend on the target."""
    return _flow("attention-rollout", lambda weights, slopes: weights, 0.5, model, images, targets)


@attention(
    "generic-attention",
    title="Generic Attention",
    paper='Chefer et al., "Generic Attention-Model Explainability for Interpreting Bi-Modal and Encoder-Decoder '
    'Transformers", 2021',
)
def generic_attention(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """The product over l of 1 + mean over heads of ReLU(A_l * dS_t / dA_l), the paper's rule for self-attention."""
    return _flow(
        "generic-attention", lambda weights, slopes: (weights * slopes).relu(), 1.0, model, images, targets
    )


def _flow(
    name: str,
    weigh: Callable[[Tensor, Tensor], Tensor],
    share: float,
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
) -> Tensor:
    """The rows of the product of ``share * (1 + mean over heads)`` that are read, upsampled to ``(N, H, W)``."""
    seen: list[Tensor] = []
    with Rules(_observing(seen)):
        score = model(images).gather(1, targets[:, None]).sum()
    shapes = {(len(each), *each.shape[2:]) for each in seen}
    if len(shapes) == 1 and next(iter(shapes)) == (len(images), seen[0].shape[2], seen[0].shape[2]):
        slopes = [each.float() for each in torch.autograd.grad(score, seen, materialize_grads=True)]
        read = (slopes[-1] != 0).any(dim=3).any(dim=1, keepdim=True).float()
        flow = read / read.sum(dim=2, keepdim=True).clamp_min(1)
        for weights, slope in zip(reversed(seen), reversed(slopes), strict=True):
            flow = share * (flow + flow @ weigh(weights.detach().float(), slope).mean(dim=1))
        maps = to_maps(flow.mT, images.shape[2:])
        if maps is not None:
            return upsample(maps, images)[:, 0]
    sides = ", ".join(sorted({f"{down} x {across}" for _, down, across in shapes})[:4])
    reason = "it computes no attention between all tokens in each layer"
    if any(count != len(images) for count, *_ in shapes):
        reason = f"it computes attention within windows ({sides}), not between all tokens"
    elif len(shapes) > 1:
        reason = f"it computes attention in several streams of tokens ({sides}), of which none has all"
    raise XaicmpError(f"{name} is not for this model, because {reason}; use grad-cam")


def _observing(seen: list[Tensor]) -> dict[str, Callable[..., Any]]:
    """Rules that append each layer's attention to ``seen``."""

    def softmax(function: Function, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        weights = function(x, *args, **kwargs)
        if weights.ndim == 4:
            seen.append(weights)
        return weights

    def attend(
        function: Function,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **kwargs: Any,
    ) -> Tensor:
        if is_causal or kwargs:
            return function(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **kwargs)
        scores = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if attn_mask is not None:
            keep = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, -torch.inf) if keep else scores + attn_mask
        return softmax(torch.softmax, scores, -1) @ value

    def multi_head(function: Function, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        query, key, value, width, heads, weight, bias, *_, out_weight, out_bias = args
        masks = [kwargs.get(each) for each in ("key_padding_mask", "attn_mask", "k_proj_weight")]
        plain = query is key is value and all(each is None for each in (*masks, *args[7:9]))
        if not plain or kwargs.get("need_weights", True):
            return function(*args, **kwargs)  # type: ignore[return-value]
        parts = linear(query, weight, bias).unflatten(2, (3, heads, width // heads))  # (T, N, 3, heads, d)
        mixed = attend(function, *parts.permute(2, 1, 3, 0, 4)).permute(2, 0, 1, 3).flatten(2)
        return linear(mixed, out_weight, out_bias), None

    return {
        "softmax": softmax,
        "scaled_dot_product_attention": attend,
        "multi_head_attention_forward": multi_head,
    }
