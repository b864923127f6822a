"""From a selection of images to their explanations, one batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np

from xaicmp.core.images.classes import by_number, labels_known, labels_of, match_classes
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.processes import ALONE, Processes
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.models.outputs import SCORE
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.run.engine import NOT_FINITE, REPEATED
from xaicmp.core.run.explainer import EXPLAINING, Batch, Explainer, Tell, made_anew, report_part, settled
from xaicmp.core.run.journal import ANEW, Journal
from xaicmp.core.run.repeats import unseen
from xaicmp.errors import UsageError, XaicmpError, arg

Candidates = tuple[ImageSource, np.ndarray]
Part = tuple[Explanations, dict[int, str]]
"""What is explained of some candidates, and by id why others cannot be read."""


def explain_selection(
    explainer: Explainer,
    images: ImageSource,
    selection: Selection,
    *,
    journal: Journal | None = None,
    processes: Processes = ALONE,
    progress: Progress = no_progress,
) -> Iterator[tuple[ImageSource, Explanations]]:
    """Choose and explain. An image counts once: where it comes again for the same class, it is left out.

    Several processes take batches of candidates in turn, and each gets the explanations of all, in order.
    ``journal``, which rank 0 alone has, is read as far as it goes and written from there on.

    Yields:
        the images (the beginning of a source, until it ends) and a batch of explanations.

    Raises:
        UsageError: an id beyond the images, an unknown target, or a journal of other images.
        XaicmpError: no such image at all, or more are needed than are at hand.
    """
    wanted, count, number = selection.count, 0, 0
    engine, seen = explainer.engine, set[bytes]()
    engine.excluded.clear()
    engine.repeated.clear()
    candidates = _candidates(explainer, images, selection, lambda: count)

    def explained(images: ImageSource, ids: np.ndarray) -> Part:
        progress(EXPLAINING, count, wanted)
        tell = partial(_teller, progress, count, processes.world, wanted)
        batch, skipped = Batch.readable(images, ids)
        once = made_anew if journal is None else partial(journal.once, number)
        return explainer.admitted(batch, selection, wanted - count, seen, tell, once), skipped

    behind = processes.share(lambda: 0 if journal is None else journal.found)
    while count < wanted and (turn := list(islice(candidates, 1 if number < behind else processes.world))):
        if number < behind:
            parts = [processes.share(partial(_kept, journal, number, *turn[0], explainer))]
            progress("resuming", number + 1, behind)
        else:
            own = turn[processes.rank : processes.rank + 1]
            found = processes.gather(partial(lambda own: [explained(*each) for each in own], own))
            parts = [part for each in found for part in each]
        for (source, ids), (part, skipped) in zip(turn, parts, strict=True):
            part = _needed(source, part, selection, wanted - count, seen)
            engine.excluded += part.excluded
            engine.repeated += part.repeated
            if count < wanted:
                explainer.skipped |= skipped
            if journal is not None and number >= behind:
                journal.write(number, source.readable(ids)[1], part)
            count, number = count + len(part.predictions), number + 1
            if len(part.predictions):
                yield source, part
    progress(EXPLAINING, count, wanted)
    _say_left_out(explainer, count > 0)
    if count == 0:
        raise XaicmpError(f"{images.name} has no image for {arg('only')} {selection.only}; choose others")


def _say_left_out(explainer: Explainer, some: bool) -> None:
    """Say which images were left out; raise XaicmpError unless there are ``some`` others."""
    engine, reasons = explainer.engine, explainer.skipped.values()
    excluded, repeated, remark = engine.excluded, engine.repeated, engine.remark
    if excluded:
        if not some:
            raise XaicmpError(
                f"the model's logits are not finite on any of {len(excluded)} images; check its weights and normalisation"
            )
        remark(f"{NOT_FINITE.format(len(excluded))} ({_ids(excluded)})")
    if repeated:
        remark(f"{REPEATED.format(len(repeated))} ({_ids(repeated)})")
    if reasons:
        if not some:
            raise XaicmpError(f"cannot read {next(iter(reasons))}, nor any other of the images; give others")
        for reason in reasons:
            remark(f"cannot read {reason}")
        files = "file is" if len(reasons) == 1 else "files are"
        remark(f"{len(reasons)} {files} left out; {arg('strict')} stops at the first instead")


def _ids(ids: Sequence[int]) -> str:
    return f"ids {', '.join(map(str, ids[:20]))}{', …' if len(ids) > 20 else ''}"


def _needed(
    images: ImageSource, part: Explanations, selection: Selection, most: int, seen: set[bytes]
) -> Explanations:
    """The first ``most`` of ``part`` that are not in ``seen``, to which they are added, and what was left out until then."""
    given = images.normalised(part.predictions.ids)
    new, others = unseen(part.pixels if given is None else given, part.predictions.targets, seen, most)
    seen.update(new)
    found = part.rows(np.array(list(new.values()), dtype=np.int64) if others else slice(len(new)))
    repeated = tuple(sorted([*part.repeated, *part.predictions.ids[others].tolist()]))
    if selection.n is None or len(new) < most:
        return replace(found, repeated=repeated)
    last = found.predictions.ids[-1] if most else -1
    return replace(
        found,
        repeated=tuple(each for each in repeated if each < last),
        excluded=tuple(each for each in part.excluded if each < last),
    )


def _kept(
    journal: Journal | None, number: int, images: ImageSource, ids: np.ndarray, explainer: Explainer
) -> Part:
    assert journal is not None  # because rank 0 alone reads
    part = journal.read(number, images, ids, [each.name for each in explainer.methods])
    if len(part.predictions) and explainer.other_classes != (part.other_maps is not None):
        raise UsageError(
            f"{journal.folder} was begun {'without' if explainer.other_classes else 'with'} {arg('controls')} other-class; "
            f"give the same options, or {ANEW}"
        )
    return part, images.readable(ids)[2]


def _candidates(
    explainer: Explainer, images: ImageSource, selection: Selection, found: Callable[[], int]
) -> Iterator[Candidates]:
    """Batches among which the selection's images are: of a beginning of the images first, if that may do."""
    fits = selection.fits(len(images))
    if fits:
        yield from _batches(explainer, images, selection, 0)
        # If the model says nothing of any, it is the model, and more images would not help.
        if selection.ids is not None or len(explainer.engine.excluded) == len(images):
            return
    try:
        whole = images.whole()
    except XaicmpError as error:
        if found():  # those at hand will have to do
            return
        raise XaicmpError(
            f"this needs more than the {len(images):,} images at hand: {error.args[0]}"
        ) from error
    if whole is not None:
        yield from _batches(explainer, whole, selection, len(images) if fits else 0)
    elif not fits:
        yield from _batches(explainer, images, selection, 0)


def _batches(
    explainer: Explainer, images: ImageSource, selection: Selection, start: int
) -> Iterator[Candidates]:
    """Those from ``start`` on, in batches no larger than it takes if most are right."""
    _check(explainer, images, selection)
    ids = np.arange(start, len(images)) if selection.ids is None else np.array(selection.ids)
    if len(ids) == 0:
        return
    size = settled(explainer.engine, images, ids)
    if selection.n is not None and selection.only != "wrong":
        size = min(size, selection.n + selection.n // 8 + 1)
    parts = [ids[begin : begin + size] for begin in range(0, len(ids), size)]
    for part, following in zip(parts, [*parts[1:], ids[:0]], strict=True):
        images.ahead(part)
        images.ahead(following)
        yield images, part


def _check(explainer: Explainer, images: ImageSource, selection: Selection) -> None:
    """Raise UsageError unless the images, the model and what is asked for go together."""
    classes, target = explainer.engine.classifier.classes, explainer.target
    if isinstance(target, str) and target not in ("predicted", "label", *classes):
        names = ", ".join(("predicted", "label", *classes[:20]))
        raise UsageError(f"{arg('target')} {target}: no such class; choose {names}")
    if isinstance(target, str) and classes.count(target) > 1:
        raise UsageError(
            f"{arg('target')} {target}: {classes.count(target)} classes are called so; give the index of one"
        )
    if isinstance(target, np.ndarray) and len(target) != len(images):
        raise UsageError(f"{len(target)} targets for {len(images)} images; give one per image")
    if selection.ids is not None and max(selection.ids) >= len(images):
        raise UsageError(
            f"{arg('ids')} {max(selection.ids)}: {images.name} has {len(images):,} images, counted from 0"
        )
    high = -1 if images.labels is None else int(np.asarray(images.labels).max(initial=-1))
    if images.classes and high >= len(images.classes):
        raise UsageError(
            f"label {high}: {images.name} has {len(images.classes):,} classes, counted from 0; give others"
        )
    if images.labels is not None and classes and by_number(images.classes, classes):
        explainer.engine.remark(
            f"{images.name}: its classes are numbers, and none is a name of a class of the model; taken as indices of classes"
        )
    if images.labels is not None and classes and classes != SCORE:
        known = match_classes(images.classes, classes) >= 0
        lost = [name for name, found in zip(images.classes, known, strict=True) if not found and name]
        if lost:
            explainer.engine.remark(
                f"{images.name}: classes that are none of the model's ({', '.join(lost[:5])}); their labels count as unknown"
            )
    asked = "label" in (target if isinstance(target, str) else "",) or selection.only != "all"
    if asked and selection.ids is None and not labels_known(images, classes):
        raise UsageError(
            f"{images.name}: which images are right is unknown, because the labels are unknown or of other classes "
            f"than the model's; take {arg('only')} all, and another {arg('target')} than label"
        )
    if isinstance(target, str) and target == "label" and (count := _unlabelled(images, classes, selection)):
        explainer.engine.remark(
            f"{images.name}: {count:,} of the images have no known label and are left out, because it is what {arg('target')} label explains"
        )


def _unlabelled(images: ImageSource, classes: Sequence[str], selection: Selection) -> int:
    """How many of the images that ``selection`` may mean have no label that is a class of the model."""
    if selection.only != "all":
        return 0
    ids = np.arange(len(images)) if selection.ids is None else np.array(selection.ids)
    return int((labels_of(images, ids, classes) < 0).sum())


def _teller(progress: Progress, before: int, world: int, whole: int, behind: int, part: int) -> Tell:
    """What is told of a part of a batch, ``behind`` images into it; other processes are taken to be as far."""
    return partial(report_part, progress, before + behind * world, part * world, whole)
