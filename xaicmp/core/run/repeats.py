"""Images that come more than once."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b

import numpy as np
from torch import Tensor


def unseen(
    inputs: Tensor, targets: np.ndarray, seen: Collection[bytes], most: int
) -> tuple[dict[bytes, int], list[int]]:
    """Which of some images are new: no other with the same values comes before, for the same class.

    Args:
        inputs: the images ``(N, 3, H, W)``.
        targets: int64 ``(N,)``, the classes that are explained.
        seen: digests of those that came before.
        most: how many new ones are wanted.

    Returns:
        by digest the rows of the first ``most`` new ones, in order; and the rows of the others until then.
    """
    new, others = dict[bytes, int](), list[int]()
    for row, (values, target) in enumerate(zip(inputs.cpu().contiguous().numpy(), targets, strict=True)):
        if len(new) == most:
            break
        digest = blake2b(values.tobytes(), digest_size=16, key=target.tobytes()).digest()
        if digest in seen or digest in new:
            others.append(row)
        else:
            new[digest] = row
    return new, others
