"""What is kept of a run that has not ended, and the run that goes on with it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from small import compare_selection, explain_selection, quick, small_engine

from xaicmp.core.attribution import Method
from xaicmp.core.attribution.context import Context
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.machine.storage import differences
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.run import explaining
from xaicmp.core.run.explainer import Explainer
from xaicmp.core.run.journal import Journal, folder_of
from xaicmp.core.run.provenance import plan_of
from xaicmp.errors import UsageError, XaicmpError

NAMES = ("grad-cam", "saliency", "integrated-gradients")
METHODS = quick(NAMES, steps=2)
PLAN = {"seed": 0, "n": 20}


def batches(n: int = 20, size: int = 8, only: str = "all") -> Iterator[Explanations]:
    stream = explain_selection(small_engine(batch_size=size), Selection(n=n, only=only), METHODS)
    return (explanations for _, explanations in stream)


def written(path: Path, sample: ImageSet, plan: dict = PLAN) -> list[Explanations]:
    """A journal of what ``batches`` gives."""
    journal, found = Journal(path, plan), list(batches())
    for number, each in enumerate(found):
        journal.write(number, sample.tensor[torch.from_numpy(each.predictions.ids)], each)
    return found


def same(a: Explanations, b: Explanations) -> bool:
    return (
        a.methods == b.methods
        and torch.equal(a.maps, b.maps)
        and torch.equal(a.pixels, b.pixels)
        and a.grids == b.grids
        and a.completeness.keys() == b.completeness.keys()
        and all(np.array_equal(a.completeness[name], b.completeness[name]) for name in a.completeness)
        and all(
            np.array_equal(getattr(a.predictions, field.name), getattr(b.predictions, field.name))
            for field in dataclasses.fields(a.predictions)
        )
    )


def test_batches_come_back_as_they_went_in(sample: ImageSet, tmp_path: Path) -> None:
    found = written(tmp_path / "a.json", sample)
    journal = Journal(tmp_path / "a.json", PLAN, resume=True)
    assert journal.found == len(found) == 3
    for number, each in enumerate(found):
        assert same(journal.read(number, sample, each.predictions.ids, NAMES), each)
    assert (journal.batches, journal.images) == (3, 20)
    np.testing.assert_array_equal(journal.predictions.ids, np.arange(20))
    columns = list(journal.column("map saliency"))
    np.testing.assert_array_equal(
        np.concatenate(columns), torch.cat([each.maps[1] for each in found]).numpy()
    )
    assert list(journal.column("gap saliency")) == []
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_it_goes_on_after_the_last_batch_without_a_gap(sample: ImageSet, tmp_path: Path) -> None:
    written(tmp_path / "a.json", sample)
    folder = folder_of(tmp_path / "a.json")
    (folder / ".000003-half.npz").write_bytes(b"half")
    assert Journal(tmp_path / "a.json", PLAN, resume=True).found == 3
    (folder / "000001.npz").unlink()
    assert Journal(tmp_path / "a.json", PLAN, resume=True).found == 1


def test_without_resume_it_begins_empty_and_what_is_kept_stays(sample: ImageSet, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    Journal(path, PLAN | {"seed": 7}).close()  # nothing was done
    assert Journal(path, PLAN).found == 0
    assert [each.name for each in folder_of(path).iterdir()] == ["plan.json"]
    written(path, sample)
    with pytest.raises(UsageError, match="keeps what an interrupted run has done; give resume, or remove"):
        Journal(path, PLAN)
    assert Journal(path, PLAN, resume=True).found == 3


FOREIGN = ("thesis.txt", "000000.npz", "1.npz", "plan.json.bak", "sub/", ".git/", "lock.txt", "0000000.npy")


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_of_somebody_else_is_refused_and_left_as_it_is(
    name: str, resume: bool, tmp_path: Path
) -> None:
    other = folder_of(tmp_path / "a.json") / name.rstrip("/")
    other.parent.mkdir()
    other.mkdir() if name.endswith("/") else other.write_text("mine")
    with pytest.raises(XaicmpError, match=rf"holds {other.name}, which is not of xaicmp; name another place"):
        Journal(tmp_path / "a.json", PLAN, resume=resume)
    assert list(other.parent.iterdir()) == [other]
    assert other.is_dir() or other.read_text() == "mine"


def test_what_others_put_there_stays_when_the_journal_goes(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.json", PLAN)
    (journal.folder / "thesis.txt").write_text("mine")
    journal.remove()
    assert [each.name for each in journal.folder.iterdir()] == ["thesis.txt"]


def test_one_journal_at_a_time(sample: ImageSet, tmp_path: Path) -> None:
    first = Journal(tmp_path / "a.json", PLAN)
    (tmp_path / "b.json").symlink_to("a.json")
    for name in ("a.json", "b.json"):
        with pytest.raises(XaicmpError, match=rf"{name} is being written by process {os.getpid()}; wait"):
            Journal(tmp_path / name, PLAN, resume=True)
    Journal(tmp_path / "c.json", PLAN).remove()
    first.remove()
    Journal(tmp_path / "a.json", PLAN).remove()
    assert [each.name for each in tmp_path.iterdir()] == ["b.json"]


def test_another_plan_is_refused_and_the_difference_named(sample: ImageSet, tmp_path: Path) -> None:
    written(tmp_path / "a.json", sample)
    with pytest.raises(UsageError, match=r"seed is 7 and was 0; .*remove that folder"):
        Journal(tmp_path / "a.json", PLAN | {"seed": 7}, resume=True)


def test_other_images_are_refused(sample: ImageSet, tmp_path: Path) -> None:
    first = written(tmp_path / "a.json", sample)[0]
    other = dataclasses.replace(sample, tensor=sample.tensor.flip(0))
    with pytest.raises(UsageError, match="other images; give the same"):
        Journal(tmp_path / "a.json", PLAN, resume=True).read(0, other, first.predictions.ids, NAMES)


@pytest.mark.parametrize("name", ["plan.json", "000000.npz"])
@pytest.mark.parametrize("content", [b"", b"half", b"[]", b"3"])
def test_damage_is_one_line(name: str, content: bytes, sample: ImageSet, tmp_path: Path) -> None:
    first = written(tmp_path / "a.json", sample)[0]
    (folder_of(tmp_path / "a.json") / name).write_bytes(content)
    with pytest.raises(XaicmpError, match="remove that folder to start anew"):
        Journal(tmp_path / "a.json", PLAN, resume=True).read(0, sample, first.predictions.ids, NAMES)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(XaicmpError, match=r"cannot write .*No such file or directory"):
        Journal(tmp_path / "none" / "a.json", PLAN)


def test_values_that_differ_are_named_wherever_they_stand() -> None:
    before, now = {"a": {"b": 1, "c": 2}, "d": None}, {"a": {"b": 1, "c": 3}, "e": 4}
    assert differences(before, before) == []
    assert differences(before, now) == [
        "c is 3 and was 2",
        "e is 4 and was unknown",
        "d is unknown and was None",
    ]


def test_a_plan_is_plain_and_says_what_matters() -> None:
    engine = small_engine()
    plan = plan_of(engine, Selection(n=20), METHODS)
    assert differences(json.loads(json.dumps(plan)), json.loads(json.dumps(plan))) == []
    others = [
        plan_of(engine.again(seed=1), Selection(n=20), METHODS),
        plan_of(small_engine(precision="bf16"), Selection(n=20), METHODS),
        plan_of(small_engine(layer="layer1"), Selection(n=20), METHODS),
        plan_of(engine, Selection(n=21), METHODS),
        plan_of(engine, Selection(n=20, only="all"), METHODS),
        plan_of(engine, Selection(ids=(3, 7), only="all"), METHODS),
        plan_of(engine, Selection(n=20), METHODS[:2]),
        plan_of(engine, Selection(n=20), quick(NAMES, steps=3)),
        plan_of(engine, Selection(n=20), METHODS, target="label"),
    ]
    assert all(differences(plan, other) for other in others)


def test_a_plan_says_whether_the_run_is_fast_whatever_the_hardware_computes_in() -> None:
    """Where it has no bfloat16, a fast run differs in the steps alone, which are no option of the methods as given."""
    plans = [
        plan_of(small_engine(precision="bf16", fast=fast), Selection(n=20), METHODS) for fast in (False, True)
    ]
    assert differences(*plans) == ["fast is True and was False"]


def comparison(only: str, **values: object) -> Comparison:
    return compare_selection(small_engine(batch_size=8), Selection(n=20, only=only), METHODS, **values)[1]


class Stop:
    """A Ctrl-C at one batch."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, explanations: Explanations) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("only", ["all", "correct"])
def test_a_run_stopped_at_any_batch_ends_in_the_same_numbers_to_the_bit(only: str, tmp_path: Path) -> None:
    whole, path = comparison(only), tmp_path / "a.json"
    for at in itertools.count(1):
        stop = Stop(at)
        before = Journal(path, PLAN)
        with suppress(KeyboardInterrupt):
            comparison(only, keep=stop, journal=before)
        before.close()
        if stop.left > 0:
            break
        behind = Journal(path, PLAN, resume=True)
        assert behind.found >= at
        resumed = comparison(only, journal=behind)
        assert behind.images == 20
        np.testing.assert_array_equal(resumed.predictions.ids, whole.predictions.ids)
        for statistic, by_pair in whole.scores.values.items():
            for pair, values in by_pair.items():
                np.testing.assert_array_equal(resumed.scores.values[statistic][pair], values)
        for name, control in whole.scores.controls.items():
            for pair, values in control["pearson"].items():
                np.testing.assert_array_equal(resumed.scores.controls[name]["pearson"][pair], values)
        behind.remove()
    assert at > 3


def test_what_is_kept_is_not_explained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison("correct", journal=Journal(tmp_path / "a.json", PLAN))
    monkeypatch.setattr("xaicmp.core.run.explainer.Forward", None)  # calling it would fail
    again = comparison("correct", journal=Journal(tmp_path / "a.json", PLAN, resume=True))
    assert len(again.predictions) == 20


@pytest.mark.parametrize("damage", [None, b"half"])
def test_of_the_batch_under_way_what_each_method_has_done_is_kept(
    damage: bytes | None, sample: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of 2 batches x 3 classes x 3 methods; what a kill before its 3rd, 12th and 17th explanation leaves is resumed."""
    monkeypatch.setattr("xaicmp.core.run.journal.WORTH", math.inf)
    explain_in, calls, path = Method.explain_in, [], tmp_path / "a.json"

    def copying(method: Method, context: Context) -> object:
        calls.append((method.name, tuple(context.ids), tuple(context.targets.tolist())))
        if len(calls) in (3, 12, 17) and not list(tmp_path.glob(f"{len(calls)}.json.part")):
            shutil.copytree(folder_of(path), folder_of(tmp_path / f"{len(calls)}.json"))
        return explain_in(method, context)

    def run(path: Path, resume: bool) -> Explanations:
        journal = Journal(path, PLAN, resume=resume)
        explainer = Explainer(small_engine(batch_size=6), METHODS, other_classes=True)
        stream = explaining.explain_selection(explainer, sample, Selection(n=12, only="all"), journal=journal)
        found = [each for _, each in stream]
        assert not journal.parts
        assert {each.name for each in journal.folder.iterdir()} >= {"000000.npz", "000001.npz"}
        journal.close()
        return Explanations.join(found)

    monkeypatch.setattr(Method, "explain_in", copying)
    whole, every = run(path, False), list(calls)
    assert len(every) == len(set(every)) == 18
    for at, kept in ((3, 2), (12, 2), (17, 7)):
        calls.clear()
        parts = list(folder_of(tmp_path / f"{at}.json").glob("0*-*.npz"))
        assert len(parts) == kept
        if damage is not None:
            parts[0].write_bytes(damage)
        with pytest.raises(UsageError, match="keeps what an interrupted run has done"):
            Journal(tmp_path / f"{at}.json", PLAN)
        resumed = run(tmp_path / f"{at}.json", True)
        assert len(calls) == 18 - (at - 1) + (damage is not None)
        assert set(calls) >= set(every[at - 1 :])
        assert same(resumed, whole)
        assert whole.other_maps is not None
        assert torch.equal(resumed.other_maps, whole.other_maps)


def test_parts_of_other_images_or_another_target_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xaicmp.core.run.journal.WORTH", math.inf)
    one = next(batches(4, 4))
    journal = Journal(tmp_path / "a.json", PLAN)

    def taken(number: int = 0, method: str = "saliency", flip: bool = False, **changed: object) -> bool:
        made = iter([dataclasses.replace(one, methods=(method,), maps=one.maps[:1])])
        part, pixels = dataclasses.replace(one.predictions, **changed), one.pixels
        journal.once(number, method, part, pixels.flip(0) if flip else pixels, made.__next__)
        return next(made, None) is not None

    assert not taken()
    assert taken()
    assert not taken(number=1)
    assert not taken(method="lrp")
    assert not taken(flip=True)
    assert not taken(targets=one.predictions.targets[::-1] + 1)
    assert not taken(ids=one.predictions.ids + 1)
    (path,) = (each for each in journal.parts if each.name.startswith("000001"))
    for place in range(1, 90):  # the archive's last entry and its end
        damaged = bytearray(path.read_bytes())
        damaged[-place] ^= 64
        path.write_bytes(damaged)
        taken(number=1)
