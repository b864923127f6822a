"""Whether a method can explain a model: found by a trial on one image, which ends after the first pass."""

from __future__ import annotations

from dataclasses import replace

import torch

from xaicmp.core.attribution.context import Context
from xaicmp.core.attribution.method import Method
from xaicmp.errors import UsageError, XaicmpError

QUICK = {"steps": 2, "samples": 2, "tolerance": 0.0}
"""Options under which a trial is short."""


class _Enough(XaicmpError):
    """The first of many passes is done."""


def why_not(method: Method, context: Context) -> str | None:
    """Why ``method`` is not for the model of ``context``, in words that follow "because"; None if it is.

    Raises:
        UsageError: a wrong argument, such as the layer.
    """

    def enough(done: float, total: float) -> None:
        raise _Enough

    context.report = enough
    options = {key: QUICK.get(key, value) for key, value in method.options.items()}
    try:
        replace(method, options=options).explain_in(context)
    except _Enough:
        return None
    except (UsageError, torch.OutOfMemoryError):
        raise
    except XaicmpError as error:
        reason = " ".join(str(error).split()).partition("; ")[0]
        return reason.partition("not for this model, because ")[2] or reason
    return None
