"""Each method against itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from small import SmallNet, choose, explain, quick, small_classifier, small_engine

from xaicmp.core.agreement.registry import agreement, get_statistics
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.explainer import Explainer
from xaicmp.core.studies.stability import Repetition, repeat

NAMES = ["saliency", "grad-cam", "integrated-gradients", "edge", "smoothgrad", "random"]
DRAWN = {"smoothgrad", "random"}
METHODS = quick(NAMES, steps=3, samples=2)


def repeated(first: Engine, second: Engine, images: ImageSet, **values: object) -> Repetition:
    chosen = choose(first, images, Selection(ids=(5, 0, 3, 17, 40), only="all"))
    return repeat(Explainer(first, METHODS), Explainer(second, METHODS), images, chosen, Settings(**values))  # type: ignore[arg-type]


def test_the_same_again_is_the_same_to_the_bit(sample: ImageSet) -> None:
    engine = small_engine(batch_size=2)
    found = repeated(engine, engine.again(), sample)
    assert found.titles == {method.name: method.title for method in METHODS}
    assert found.same == dict.fromkeys(NAMES, True)
    for name in NAMES:
        assert found.values["pearson"][name].shape == (5,)
        defined = ~np.isnan(found.values["pearson"][name])
        assert defined.any()
        assert found.values["pearson"][name][defined] == pytest.approx(1)
        assert found.values["iou"][name].tolist() == [1] * 5


def test_another_seed_changes_only_what_is_drawn(sample: ImageSet) -> None:
    engine = small_engine(batch_size=2)
    found = repeated(engine, engine.again(seed=1), sample)
    assert {name for name, same in found.same.items() if not same} == DRAWN
    assert abs(np.mean(found.values["pearson"]["random"])) < 0.1
    assert 0.1 < np.mean(found.values["pearson"]["smoothgrad"]) < 0.999


def test_another_checkpoint_changes_all_that_know_the_model(sample: ImageSet) -> None:
    engine = small_engine(batch_size=2)
    other = engine.again(classifier=small_classifier(SmallNet(1)))
    found = repeated(engine, other, sample)
    assert {name for name, same in found.same.items() if same} == {"edge", "random"}
    for name in ("saliency", "integrated-gradients", "smoothgrad", "grad-cam"):
        values = found.values["pearson"][name]
        assert not (values > 0.999).any()


def test_the_targets_of_the_first_are_explained_on_the_second(sample: ImageSet) -> None:
    """Though the second would predict others; and values are those of the maps, batch by batch."""
    first, second = small_engine(batch_size=3), small_engine(SmallNet(1), batch_size=3)
    chosen = choose(first, sample, Selection(n=7, only="all"))
    assert (choose(second, sample, Selection(n=7, only="all")).predicted != chosen.predicted).any()
    statistics = get_statistics(["spearman", "iou"])
    how = Settings(statistics, top=0.1)
    told: list[tuple[str, int, int]] = []
    found = repeat(
        Explainer(first, METHODS[:2]),
        Explainer(second, METHODS[:2]),
        sample,
        chosen,
        how,
        lambda *each: told.append(each),
    )
    maps = [list(explain(each, sample, chosen, METHODS[:2])) for each in (first, second)]
    for index, method in enumerate(METHODS[:2]):
        for name in ("spearman", "iou"):
            pairs = zip(*maps, strict=True)
            expected = [agreement(name, a.maps[index], b.maps[index], 0.1).numpy() for a, b in pairs]
            own = np.concatenate(expected)
            np.testing.assert_allclose(found.values[name][method.name], own, rtol=1e-12)
            one, other = (torch.cat([each.maps[index] for each in of]) for of in maps)
            apart = [agreement(name, one, other.roll(turn, 0), 0.1).numpy() for turn in range(1, 7)]
            control = found.controls["other_image"][name][method.name]
            assert control.mean() == pytest.approx(np.mean(apart))
            test = found.above(name, "other_image")[method.name]
            assert test.difference == pytest.approx((own - control).mean())
    assert found.settings is how
    assert told[-1] == ("explaining", 7, 7)


def test_without_the_control_there_is_none(sample: ImageSet) -> None:
    engine = small_engine(batch_size=2)
    found = repeated(engine, engine.again(), sample, controls="shift")
    assert (found.controls, found.above("pearson", "other_image")) == ({}, {})


def test_one_changed_image_is_enough_to_differ(sample: ImageSet) -> None:
    first, second = small_engine(batch_size=2), small_engine(batch_size=2)
    chosen = choose(first, sample, Selection(n=4, only="all"))

    class Changing(Explainer):
        def again(self, *given: Any) -> Iterator[Explanations]:
            for number, batch in enumerate(super().again(*given)):
                if number == 0:
                    batch.maps[0, 1, 0, 0] += 1
                yield batch

    one, other = Explainer(first, METHODS[:2]), Changing(second, METHODS[:2])
    found = repeat(one, other, sample, chosen, Settings())
    assert found.same == {"saliency": False, "grad-cam": True}
