"""The rank of the agreement on an image among that with maps of other images, for a photograph that comes alone."""

from __future__ import annotations

import torch
from torch import Tensor

from xaicmp.core.agreement.partners import place
from xaicmp.core.agreement.statistic import prepare_all, take
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.scores import Values
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.explainer import Explainer
from xaicmp.core.run.explaining import explain_selection
from xaicmp.errors import UsageError, arg


def among_reference(
    explainer: Explainer,
    images: ImageSource,
    predictions: Predictions,
    reference: ImageSource,
    settings: Settings,
    progress: Progress = no_progress,
) -> tuple[Values, Values]:
    """The p of each image's agreement among those of A's map with B's of every image of ``reference``, and how many.

    Args:
        explainer: the methods, on the model.
        images, predictions: which images, and what of each is explained.
        reference: other images, explained for the class that is predicted; what is the image itself is left out.
        settings: what is measured.
        progress: told how far it is.

    Raises:
        UsageError: ``reference`` has images of another size.
    """
    if reference.size() != images.size():
        raise UsageError(f"{arg('reference')}: its images are of another size; give some of the same kind")
    own, top = Explanations.join(list(explainer.again(images, predictions))), settings.top
    names, pairs = own.methods, torch.combinations(torch.arange(len(own.methods))).T
    prepared = [prepare_all(each, own.maps.transpose(0, 1), top) for each in settings.statistics]
    nulls: list[list[Tensor]] = [[] for _ in settings.statistics]
    every = Selection(n=len(reference), only="all")
    for _, batch in explain_selection(explainer, reference, every, progress=progress):
        same = torch.stack([(batch.pixels == each).flatten(1).all(dim=1) for each in own.pixels], dim=1)
        maps, rows = batch.maps.transpose(0, 1), torch.arange(len(own.pixels))[:, None].expand(-1, len(same))
        for each, mine, null in zip(settings.statistics, prepared, nulls, strict=True):
            others = prepare_all(each, maps, top)
            found = torch.stack([each.compare_pairs(take(mine, row), others, pairs) for row in rows], dim=1)
            null.append(found.masked_fill(same[..., None], torch.nan))
    p: Values = {}
    among: Values = {}
    for each, mine, null in zip(settings.statistics, prepared, nulls, strict=True):
        observed = each.compare_pairs(mine, mine, pairs)
        places = [
            place(*both, each.higher) for both in zip(torch.cat(null).unbind(2), observed.T, strict=True)
        ]
        for values, index in ((p, 0), (among, 1)):
            values[each.name] = {
                (names[a], names[b]): found[index].numpy()
                for (a, b), found in zip(pairs.T.tolist(), places, strict=True)
            }
    return p, among
