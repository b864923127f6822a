"""Batch normalisation merged into the convolution before it: the same function in fewer steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from xaicmp.core.models.guard import copied, unchanged
from xaicmp.core.models.layers import get_layer
from xaicmp.core.models.self_attention import speed_up
from xaicmp.errors import XaicmpError

PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""The types that are merged; a subclass may compute something else."""


def fuse(model: nn.Module, example: Tensor, keep: Collection[str] = ()) -> nn.Module:
    """A copy of ``model`` in eval mode whose batch normalisations, where each follows a convolution and nothing
    else uses what lies between them, are merged into it: W' = s W, b' = s (b - mean) + beta, s = gamma / std.

    They are found by a forward pass, because the order of attributes need not be the order of calls. An
    ``nn.Identity`` takes their place, so all modules keep their names. Tensors that stay the same are shared.

    ``nn.MultiheadAttention`` computes the same in less time, see ``SelfAttention``.

    The output of a merged convolution is that of the normalisation. The layers named in ``keep`` have the output
    that they have in ``model``: a convolution is not merged if one of them returns or uses its own output.

    Args:
        model: ``(N, C, H, W)`` to logits; it is left as it was found.
        example: some images for it.
        keep: names of layers whose output is needed.

    Returns:
        The copy; ``model`` itself where it cannot be copied, or the copy would compute something else, as where its code
        looks into its normalisations.

    Raises:
        UsageError: the model has no layer of a name in ``keep``.
    """
    shared: dict[int, Any] = {id(each): each for each in chain(model.parameters(), model.buffers())}
    try:
        fused = copied(model, shared).eval()
    except XaicmpError:
        return model
    pairs = _pairs(fused, example, [get_layer(fused, name) for name in keep])
    # Not under autocast, so that a difference is more than rounding.
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(example.device.type, enabled=False):
        for convolution, norm in pairs:
            merged = fuse_conv_bn_eval(convolution, norm)
            convolution.weight, convolution.bias = merged.weight, merged.bias
            for parent in fused.modules():
                for name, child in parent._modules.items():
                    if child is norm:
                        parent._modules[name] = nn.Identity().eval()
        speed_up(fused)
        with unchanged(model) as lent:
            expected, found = lent(example), fused(example)
    scale = float(expected.abs().nan_to_num().max())
    same = torch.isclose(found, expected, rtol=0, atol=1e-4 * scale, equal_nan=True).all()
    return fused if same else model


def _pairs(model: nn.Module, example: Tensor, keep: list[nn.Module]) -> list[tuple[_ConvNd, _BatchNorm]]:
    """Pairs of a convolution and a normalisation that ran once each, where nothing else uses the convolution's output.

    The outputs of the modules ``keep`` count as used once more.
    """
    made: dict[Node, _ConvNd] = {}
    pairs: list[tuple[Node, _BatchNorm]] = []
    calls: Counter[nn.Module] = Counter()
    waiting: list[Node | None] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls[module] += 1
        before = inputs[0].grad_fn
        if isinstance(module, _ConvNd) and output.grad_fn is not None:
            made[output.grad_fn] = module
        elif isinstance(module, _BatchNorm) and module.running_mean is not None and before in made:
            pairs.append((before, module))
            waiting.append(output.grad_fn)  # even if no logit depends on it

    def want(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):
            waiting.append(output.grad_fn)

    with unchanged(model) as lent, torch.inference_mode(False), torch.enable_grad():
        for module in lent.modules():
            # Not modules with hooks, which may change what they compute.
            hooked = module._forward_pre_hooks or module._forward_hooks
            if type(module) in PLAIN and not hooked:
                module.register_forward_hook(note)
        for module in keep:
            module.register_forward_hook(want)
        waiting.append(lent(example.detach().clone().requires_grad_()).grad_fn)
    uses: Counter[Node] = Counter()
    while waiting:
        node = waiting.pop()
        if node is not None:
            uses[node] += 1
            if uses[node] == 1:
                waiting.extend(each for each, _ in node.next_functions)
    found = [(made[node], norm) for node, norm in pairs if uses[node] == 1]
    return [pair for pair in found if calls[pair[0]] == calls[pair[1]] == 1]
