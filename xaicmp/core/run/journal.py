"""Explanations on disk as they come, so that a run that was stopped or killed goes on where it was."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from torch import Tensor

from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.storage import differences, followed, held, replacing, text_of
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.predictions import Predictions
from xaicmp.errors import UsageError, XaicmpError, arg

PLAN, LOCK = "plan.json", "lock"
OURS = re.compile(rf"{PLAN}|{LOCK}|\d{{6,}}\.npz|\..*\.(npz|json|csv|md)")
"""The names of what a journal may hold: temporary files too, which begin with a dot."""

ANEW = "remove that folder to start anew"


class Journal:
    """A folder beside a result, ``NAME.part``, with what is explained so far: a file a batch of candidates.

    A file appears once it is complete, and in order, so that after a kill at any moment the folder holds the
    first batches, each whole. It goes when the result is there. One process at a time has it.

    Args:
        result: the file that is to come.
        plan: plain values that determine the explanations.
        resume: whether to go on with what is there; otherwise nothing may be there.

    Attributes:
        folder: where it is.
        found: how many batches were there when it was opened.

    Raises:
        UsageError: what is there is of another plan; the message names what differs. Or explanations are there, and
            they are not to be resumed.
        XaicmpError: it cannot be read or written, another process has it, or the folder holds something else.
    """

    def __init__(self, result: Path, plan: Mapping[str, Any], *, resume: bool = False) -> None:
        self.folder = folder_of(result)
        self.plan = json.loads(json.dumps(plan))
        self.found = 0
        self._held = ExitStack()
        try:
            self.folder.mkdir(exist_ok=True)
            names = sorted(path.name for path in self.folder.iterdir())
        except OSError as error:
            raise XaicmpError(f"cannot write {self.folder}: {error.strerror}; name another place") from error
        # The plan is the first to come and the last to go.
        for name in names:
            if not OURS.fullmatch(name) or (name[0].isdigit() and PLAN not in names):
                raise XaicmpError(f"{self.folder} holds {name}, which is not of xaicmp; name another place")
        self._held.enter_context(held(self.folder / LOCK, result))
        try:
            self._begin(resume)
        except XaicmpError:
            self.close()
            raise

    def _begin(self, resume: bool) -> None:
        if resume and (self.folder / PLAN).is_file():
            self._check_plan()
            self.found = self.batches
            return
        if self.batches:
            raise UsageError(
                f"{self.folder} keeps what an interrupted run has done; give {arg('resume')}, or {ANEW}"
            )
        self._clear()
        with replacing(self.folder / PLAN) as temporary:
            temporary.write_text(json.dumps(self.plan, indent=2) + "\n", encoding="utf-8")

    def write(self, number: int, candidates: Tensor, batch: Explanations) -> None:
        """Keep what became of the candidates ``(B, 3, H, W)`` of batch ``number``: the explanations of some."""
        arrays: dict[str, Any] = {
            field.name: getattr(batch.predictions, field.name) for field in fields(Predictions)
        }
        arrays |= {f"map {name}": each.numpy() for name, each in zip(batch.methods, batch.maps, strict=True)}
        arrays |= {f"gap {name}": gap for name, gap in batch.completeness.items()}
        arrays |= {f"grid {name}": np.array(grid) for name, grid in batch.grids.items()}
        if batch.other_maps is not None:
            others = batch.other_maps.unbind(dim=1)
            arrays |= {
                f"other {name}": each.numpy() for name, each in zip(batch.methods, others, strict=True)
            }
        arrays["excluded"] = np.array(batch.excluded, dtype=np.int64)
        with replacing(self._path(number)) as temporary:
            np.savez(temporary, candidates=_crc(candidates), **arrays)

    def read(self, number: int, images: ImageSource, ids: np.ndarray, methods: Sequence[str]) -> Explanations:
        """What is kept of batch ``number``, whose candidates are ``images`` at ``ids``.

        Raises:
            UsageError: it is of other images.
            XaicmpError: it is damaged.
        """
        with self._opened(number) as arrays:
            if int(arrays["candidates"]) != _crc(images.readable(ids)[1]):
                raise UsageError(f"{self.folder} is of other images; give the same {arg('data')}, or {ANEW}")
            chosen = Predictions(*(arrays[field.name] for field in fields(Predictions)))
            others = [
                torch.from_numpy(arrays[each]) for name in methods if (each := f"other {name}") in arrays
            ]
            return Explanations(
                chosen,
                images.pixels(chosen.ids),
                tuple(methods),
                torch.from_numpy(np.stack([arrays[f"map {name}"] for name in methods])),
                {name: arrays[f"gap {name}"] for name in methods if f"gap {name}" in arrays},
                {
                    name: tuple(arrays[f"grid {name}"].tolist())
                    for name in methods
                    if f"grid {name}" in arrays
                },
                tuple(arrays["excluded"].tolist()),
                torch.stack(others, dim=1) if others else None,
            )

    def column(self, name: str) -> Iterator[np.ndarray]:
        """One array of every batch with images, in order: ``"map saliency"``, ``"gap lrp"``, ``"ids"``."""
        for number in range(self.batches):
            with self._opened(number) as arrays:
                if name in arrays and len(arrays["ids"]):
                    yield arrays[name]

    @property
    def batches(self) -> int:
        """How many are there, from the first on without a gap."""
        numbers = {
            int(path.stem) for path in self.folder.iterdir() if re.fullmatch(r"\d{6,}\.npz", path.name)
        }
        return next(number for number in range(len(numbers) + 1) if number not in numbers)

    @property
    def images(self) -> int:
        """How many images are in them."""
        return sum(len(ids) for ids in self.column("ids"))

    @property
    def predictions(self) -> Predictions:
        """The images so far, and what the model says of them."""
        return Predictions(*(np.concatenate(list(self.column(field.name))) for field in fields(Predictions)))

    def remove(self) -> None:
        """Leave nothing behind."""
        self._clear()
        self.close()
        with suppress(OSError):  # somebody has put something there
            self.folder.rmdir()

    def close(self) -> None:
        """Let other processes have it."""
        self._held.close()

    def _clear(self) -> None:
        for path in sorted(self.folder.iterdir()):
            if OURS.fullmatch(path.name) and path.name != LOCK:
                path.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.npz"

    @contextmanager
    def _opened(self, number: int) -> Iterator[Mapping[str, np.ndarray]]:
        try:
            with self._path(number).open("rb") as file, NpzFile(file) as arrays:
                yield arrays
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise XaicmpError(f"{self._path(number)} is damaged ({error}); {ANEW}") from error

    def _check_plan(self) -> None:
        try:
            before = json.loads(text_of(self.folder / PLAN))
        except (OSError, ValueError, RecursionError) as error:
            raise XaicmpError(f"cannot read {self.folder / PLAN}: {error}; {ANEW}") from error
        if changed := differences(before if isinstance(before, dict) else {}, self.plan):
            raise UsageError(
                f"{self.folder} is of another run: {'; '.join(changed)}; give the same options, or {ANEW}"
            )


def folder_of(result: Path) -> Path:
    """Where the journal of ``result`` is."""
    place = followed(result) if result.is_symlink() else result
    return place.with_name(f"{place.name}.part")


def _crc(pixels: Tensor) -> int:
    return zlib.crc32(pixels.contiguous().numpy().data)
