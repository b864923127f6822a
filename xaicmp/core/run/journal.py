"""Explanations on disk as they come, so that a run that was stopped or killed goes on where it was."""

from __future__ import annotations

import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from time import perf_counter
from tokenize import TokenError
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
PART = re.compile(r"\d{6,}-[0-9a-f]{8}\.npz")
OURS = re.compile(rf"{PLAN}|{LOCK}|{PART.pattern}|\d{{6,}}\.npz|\..*\.(npz|json|csv|md)")
"""The names of what a journal may hold: temporary files too, which begin with a dot."""

LEFT_OUT = ("excluded", "repeated")
WORTH = 50e6
"""Bytes of a method's maps per second that they took: what is larger is sooner made again than kept."""

DAMAGE = (
    *(OSError, ValueError, TypeError, AttributeError, KeyError, EOFError, RuntimeError, TokenError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
"""What reading a damaged .npz file may raise."""

ANEW = "remove that folder to start anew"


class Journal:
    """A folder beside a result, ``NAME.part``, with what is explained so far: one file per batch of candidates.

    A file appears once it is complete, and in order, so that after a kill at any moment the folder holds the
    first batches, each whole, and of the batch under way one file per method that is done. It goes when the
    result is there. One process at a time has it.

    Args:
        result: the file that is to come.
        plan: plain values that determine the explanations.
        resume: whether to go on with what is there; otherwise nothing may be there.

    Attributes:
        folder: where it is.
        found: how many batches were there when it was opened.
        parts: the files of the batch under way.
        begun: whether batches or parts were there when it was opened.

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
        self.parts = {path for path in self.folder.iterdir() if PART.fullmatch(path.name)}
        self.found = self.batches
        self.begun = bool(self.found or self.parts)
        if resume and (self.folder / PLAN).is_file():
            self._check_plan()
            return
        if self.begun:
            raise UsageError(
                f"{self.folder} keeps what an interrupted run has done; give {arg('resume')}, or {ANEW}"
            )
        self._clear()
        with replacing(self.folder / PLAN) as temporary:
            temporary.write_text(json.dumps(self.plan, indent=2) + "\n", encoding="utf-8")

    def check(self, plan: Mapping[str, Any]) -> None:
        """Raise UsageError, which names what differs, unless a run has this journal's plan, as far as it has any."""
        now = json.loads(json.dumps(plan))
        kept = {key: value for key, value in self.plan.items() if key in now}
        if changed := differences(kept, {key: now[key] for key in kept}):
            raise UsageError(
                f"{self.folder} is to keep another run: {'; '.join(changed)}; give both the same"
            )

    def write(self, number: int, candidates: Tensor, batch: Explanations) -> None:
        """Keep what became of the candidates ``(B, 3, H, W)`` of batch ``number``: the explanations of some."""
        self._save(self._path(number), candidates, batch)
        while self.parts:
            self.parts.pop().unlink(missing_ok=True)

    def once(
        self, number: int, method: str, part: Predictions, pixels: Tensor, make: Callable[[], Explanations]
    ) -> Explanations:
        """The maps of ``part`` of the batch under way by one method: those that are kept, or else made and kept."""
        key = zlib.crc32(method.encode(), zlib.crc32(np.stack([part.ids, part.targets]).tobytes()))
        path = self.folder / f"{number:06}-{key:08x}.npz"
        if path in self.parts:
            with suppress(XaicmpError), self._opened(path) as arrays:  # damaged, it is made again
                if int(arrays["candidates"]) == _crc(pixels):
                    return replace(_explanations(arrays, pixels, [method]), predictions=part)
        started = perf_counter()
        made = make()
        if (perf_counter() - started) * WORTH > made.maps.nbytes:
            self._save(path, pixels, made)
            self.parts.add(path)
        return made

    def _save(self, path: Path, candidates: Tensor, batch: Explanations) -> None:
        arrays: dict[str, Any] = {
            field.name: getattr(batch.predictions, field.name) for field in fields(Predictions)
        }
        arrays |= {f"map {name}": each.numpy() for name, each in zip(batch.methods, batch.maps, strict=True)}
        arrays |= {f"gap {name}": gap for name, gap in batch.completeness.items()}
        arrays |= {f"grid {name}": np.array(grid) for name, grid in batch.grids.items()}
        if batch.other_maps is not None:
            pairs = zip(batch.methods, batch.other_maps.unbind(dim=1), strict=True)
            arrays |= {f"other {name}": each.numpy() for name, each in pairs}
        if batch.other_targets is not None:
            arrays["others"] = batch.other_targets
        for name in LEFT_OUT:
            arrays[name] = np.array(getattr(batch, name), dtype=np.int64)
        with replacing(path) as temporary:
            np.savez(temporary, candidates=_crc(candidates), **arrays)

    def read(self, number: int, images: ImageSource, ids: np.ndarray, methods: Sequence[str]) -> Explanations:
        """What is kept of batch ``number``, whose candidates are ``images`` at ``ids``.

        Raises:
            UsageError: it is of other images.
            XaicmpError: it is damaged.
        """
        with self._opened(self._path(number)) as arrays:
            if int(arrays["candidates"]) != _crc(images.readable(ids)[1]):
                raise UsageError(f"{self.folder} is of other images; give the same {arg('data')}, or {ANEW}")
            return _explanations(arrays, images.pixels(arrays["ids"]), methods)

    def column(self, name: str) -> Iterator[np.ndarray]:
        """One array of every batch with images, in order: ``"map saliency"``, ``"gap lrp"``, ``"ids"``."""
        for number in range(self.batches):
            with self._opened(self._path(number)) as arrays:
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
    def _opened(self, path: Path) -> Iterator[Mapping[str, np.ndarray]]:
        try:
            with path.open("rb") as file, NpzFile(file) as arrays:
                yield arrays
        except DAMAGE as error:
            raise XaicmpError(f"{path} is damaged ({error}); {ANEW}") from error

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


def _explanations(arrays: Mapping[str, np.ndarray], pixels: Tensor, methods: Sequence[str]) -> Explanations:
    """What is in a file of a journal."""
    maps = np.stack([arrays[f"map {name}"] for name in methods])
    if maps.shape[1:] != (len(pixels), *pixels.shape[2:]):
        raise ValueError("maps of another size")
    others = [torch.from_numpy(arrays[each]) for name in methods if (each := f"other {name}") in arrays]
    left_out: dict[str, Any] = {name: tuple(arrays[name].tolist()) for name in LEFT_OUT if name in arrays}
    return Explanations(
        Predictions(*(arrays[field.name] for field in fields(Predictions))),
        pixels,
        tuple(methods),
        torch.from_numpy(maps),
        {name: arrays[f"gap {name}"] for name in methods if f"gap {name}" in arrays},
        {name: tuple(arrays[f"grid {name}"].tolist()) for name in methods if f"grid {name}" in arrays},
        other_maps=torch.stack(others, dim=1) if others else None,
        other_targets=arrays.get("others"),
        **left_out,
    )


def _crc(pixels: Tensor) -> int:
    return zlib.crc32(pixels.contiguous().numpy().data)
