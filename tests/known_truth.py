"""A network with hand-set weights, whose true attribution is known in closed form.

Logit 0 is how much of a template stands at one place: max(0, sum of template x patch). Every image has the template there, and a
stronger copy at another place, which the network sees in its convolution and does not use.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIZE, SIDE = 16, 4
PLACE, DECOY = (3, 2), (10, 9)
"""Where the template counts, and where a copy stands that does not: rows and columns of its upper left corner."""


def template() -> Tensor:
    """Positive and negative values of unlike size, ``(3, SIDE, SIDE)``."""
    return torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def detector() -> nn.Module:
    """Convolution with the template, ReLU, and a layer that reads one place of the map alone."""
    cells = SIZE - SIDE + 1
    model = nn.Sequential(
        nn.Conv2d(3, 1, SIDE, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(cells**2, 2, bias=False)
    )
    with torch.no_grad():
        model[0].weight.copy_(template()[None])
        model[3].weight.zero_()
        model[3].weight[0, PLACE[0] * cells + PLACE[1]] = 1
    return model.eval()


def images(count: int = 6) -> Tensor:
    """Noise with the template at its place and, twice as strong, at the decoy's, ``(N, 3, SIZE, SIZE)``."""
    found = 0.3 * torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    for (row, column), strength in ((PLACE, 1), (DECOY, 2)):
        found[:, :, row : row + SIDE, column : column + SIDE] += strength * template()
    return found


def mask(count: int = 6) -> Tensor:
    """The pixels that the logit depends on, bool ``(N, SIZE, SIZE)``."""
    inside = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    inside[:, PLACE[0] : PLACE[0] + SIDE, PLACE[1] : PLACE[1] + SIDE] = True
    return inside


def truth(seen: Tensor) -> Tensor:
    """What each value adds to the logit, template x image at the place and 0 elsewhere, ``(N, 3, SIZE, SIZE)``."""
    weights = torch.zeros(3, SIZE, SIZE)
    weights[:, PLACE[0] : PLACE[0] + SIDE, PLACE[1] : PLACE[1] + SIDE] = template()
    return weights * seen
