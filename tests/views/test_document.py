"""A saved comparison comes back as it was, whatever was measured; a damaged one is one line."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import compared, small_classifier

import xaicmp
from xaicmp.core.agreement.statistic import STATISTICS
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.results.comparison import Comparison
from xaicmp.errors import UsageError, XaicmpError
from xaicmp.views.document import from_json
from xaicmp.views.table import FORMATS

EVERY_CONTROL = ("other-image", "shift", "resolution")


def of_maps(path: Path, seed: int, names: list[str], settings: xaicmp.Settings, **arrays: Any) -> Comparison:
    """Maps with constant ones, ties, copies and a coarse grid among them."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 7))
    maps = rng.normal(size=(len(names), count, 12, 13)).astype(np.float32)
    maps[rng.integers(len(names)), rng.integers(count)] = 0.5
    maps[rng.integers(len(names))] = np.round(maps[0])
    maps[-1] = 2 * maps[rng.integers(len(names))]
    np.savez(path, methods=np.array(names), maps=maps, grids=rng.integers(2, 12, (len(names), 2)), **arrays)
    return xaicmp.compare_maps(path, settings)


def same(a: Comparison, b: Comparison) -> None:
    assert (a.titles, a.floors, a.pixels) == (b.titles, b.floors, b.pixels)
    assert (a.source.about, a.source.classes, a.source.names) == (
        b.source.about,
        b.source.classes,
        b.source.names,
    )
    assert a.source.details.items() <= b.source.details.items()
    assert repr(a.settings) == repr(b.settings)
    for name in ("ids", "labels", "predicted", "confidence", "targets"):
        np.testing.assert_array_equal(getattr(a.predictions, name), getattr(b.predictions, name))
    for name in ("values", "tied", "identical", "controls", "p_values", "completeness", "curves", "among"):
        equal(getattr(a.scores, name), getattr(b.scores, name))


def equal(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            equal(a[key], b[key])
    else:
        np.testing.assert_array_equal(a, b)  # NaN equals NaN
        assert a.dtype == b.dtype


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    statistics=st.lists(st.sampled_from(list(STATISTICS)), min_size=1, max_size=3, unique=True),
    tops=st.lists(st.sampled_from([0.07, 0.29, 1 / 3]), max_size=2, unique=True),
    controls=st.lists(st.sampled_from(EVERY_CONTROL), unique=True),
    names=st.lists(
        st.sampled_from(["edge", "saliency", "-1", "=x", "ü & _{", "b"]), min_size=2, max_size=4, unique=True
    ),
    curve=st.booleans(),
)
def test_saved_loaded_and_saved_again_is_byte_identical(
    seed: int,
    statistics: list[str],
    tops: list[float],
    controls: list[str],
    names: list[str],
    curve: bool,
    tmp_path: Path,
) -> None:
    measured = xaicmp.Settings(
        xaicmp.get_statistics(statistics, tops),
        0.2,
        controls or "none",
        level=0.9,
        seed=seed % 97,
        curve=curve,
    )
    path = tmp_path / "a.json"
    comparison = of_maps(tmp_path / "a.npz", seed, names, measured)
    xaicmp.Result(comparison).save(path)
    loaded = xaicmp.load(path)
    same(comparison, loaded.comparison)
    loaded.save(tmp_path / "b.json")
    assert (tmp_path / "b.json").read_bytes() == path.read_bytes()
    for format in FORMATS:
        for details in (False, True):
            assert loaded.table(format, details) == xaicmp.Result(comparison).table(format, details)


class Named(xaicmp.TensorImages):
    """Images with names of their own."""

    def names(self, ids: np.ndarray) -> list[str]:
        return [f"=photo {each}.jpg" for each in ids]


@pytest.fixture(scope="module")
def result() -> xaicmp.Result:
    """Of a model, with unknown labels, names, model-free methods and everything that can be measured."""
    images = Named(torch.randn(7, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    measured = xaicmp.Settings(
        ["iou", "pearson", "jensen-shannon"], 0.1, EVERY_CONTROL, curve=True, seed=3, margin=0.2
    )
    methods = ["grad-cam", "edge", "integrated-gradients:steps=3"]
    return xaicmp.compare(small_classifier(), images, methods=methods, settings=measured)


def test_a_loaded_result_answers_what_needs_no_model_and_says_what_does(
    result: xaicmp.Result, tmp_path: Path
) -> None:
    result.save(tmp_path / "a.json")
    loaded = xaicmp.load(tmp_path / "a.json")
    same(result.comparison, loaded.comparison)
    assert repr(loaded) == repr(result)
    assert loaded.pairs == result.pairs
    assert loaded["Grad-CAM", "edge"].iou == result["edge", "grad-cam"].iou
    assert loaded.compare_pairs().letters == result.compare_pairs().letters
    assert loaded.by("correct") == result.by("correct")
    assert loaded.figure("shares").axes
    for ask in (loaded.rerun, loaded.randomisation, loaded.faithfulness, loaded.cost):
        with pytest.raises(UsageError, match="this result comes from a file, and this needs the model"):
            ask()
    with pytest.raises(UsageError, match=r"settings go with maps; .*a\.json says what was measured"):
        xaicmp.load(tmp_path / "a.json", xaicmp.Settings())


def test_an_image_selection_of_the_sample_comes_back(sample: ImageSet, tmp_path: Path) -> None:
    comparison, _ = compared(sample, ("saliency", "edge", "random"), (7, 3, 120))
    xaicmp.Result(comparison).save(tmp_path / "a.json")
    same(comparison, xaicmp.load(tmp_path / "a.json").comparison)


def test_maps_are_loaded_as_compare_maps_does(tmp_path: Path) -> None:
    measured = xaicmp.Settings(["cosine"], controls="none")
    expected = of_maps(tmp_path / "a.npz", 5, ["one", "two"], measured)
    same(xaicmp.load(tmp_path / "a.npz", measured).comparison, expected)
    assert [each.name for each in xaicmp.load(tmp_path / "a.npz").comparison.statistics] == ["pearson", "iou"]


def test_the_studies_in_a_document_stay_in_it(result: xaicmp.Result, tmp_path: Path) -> None:
    document = json.loads(result.table("json")) | {"by_class": [{"group": "cat"}]}
    (tmp_path / "a.json").write_text(json.dumps(document))
    loaded = xaicmp.load(tmp_path / "a.json")
    assert loaded.studies == {"by_class": [{"group": "cat"}]}
    assert json.loads(loaded.table("json")) == document
    assert loaded.table("markdown") == result.table("markdown")


def test_the_order_of_the_keys_does_not_matter(result: xaicmp.Result, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(json.loads(result.table("json")), sort_keys=True))
    assert xaicmp.load(tmp_path / "a.json").table("markdown") == result.table("markdown")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON document"),
        (b"\xff\xfe", "is no JSON document"),
        (b"[" * 100_000, "is no JSON document"),
        (b"3", "holds no comparison"),
        (b"[]", "holds no comparison"),
        (b'{"loss": 1}', "holds no comparison"),
        (b'{"xaicmp": "1", "pairs": [], "images": []}', "an older xaicmp"),
        (b'{"xaicmp": "1", "pairs": [], "images": [], "schema": 2}', "an older xaicmp"),
        (b'{"xaicmp": "1", "pairs": [], "images": [], "schema": 3}', "a newer xaicmp"),
        (b'{"xaicmp": "1", "pairs": [], "images": [], "schema": 2, "comparison": 1, "scores": 2}', "damaged"),
    ],
)
def test_what_is_no_document_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(XaicmpError, match=message) as caught:
        xaicmp.load(tmp_path / "a.json")
    assert "\n" not in str(caught.value)
    assert "a.json" in str(caught.value)


def test_a_file_that_is_not_there_or_of_another_kind_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(XaicmpError, match=r"cannot read .*none\.json: No such file"):
        xaicmp.load(tmp_path / "none.json")
    with pytest.raises(UsageError, match=r"must end in \.json, \.npz"):
        xaicmp.load(tmp_path / "a.csv")


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in nested dicts and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way] * bool(way) + [each for key, one in inner for each in places(one, (*way, key))]


WRONG: list[Any] = [None, True, -7, 10**30, 0.5, -1e300, "", "x", "0.3", [], [1], {}, {"a": 1}]


def test_a_changed_document_is_one_line_or_a_result_that_every_format_shows(
    result: xaicmp.Result, tmp_path: Path
) -> None:
    """Values of the wrong type, range or number, and missing ones, at hundreds of places."""
    draw, whole = random.Random(0), json.loads(result.table("json"))
    every = [each for each in places(whole) if each[0] != "pairs"]
    few = [each for each in every if len(each) < 4]
    refused = 0
    for _ in range(400):
        changed = copy.deepcopy(whole)
        *way, last = draw.choice(draw.choice([every, few]))
        inside = changed
        for key in way:
            inside = inside[key]
        if draw.random() < 0.3:
            del inside[last]
        else:
            inside[last] = draw.choice(WRONG)
        path = tmp_path / "a.json"
        path.write_text(json.dumps(changed))
        try:
            comparison, _ = from_json(path)
        except XaicmpError as error:
            assert "\n" not in str(error)
            assert str(path) in str(error)
            refused += 1
            continue
        if draw.random() < 0.05:
            for format in FORMATS:
                xaicmp.Result(comparison).table(format)
    assert refused > 200


def test_long_rows_have_every_value_and_numbers_are_never_protected(
    result: xaicmp.Result, tmp_path: Path
) -> None:
    result.save(tmp_path / "long.csv", details=True)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "long.csv").read_text())))
    assert list(rows[0]) == ["id", "file", "a", "b", "statistic", "value"]
    assert len(rows) == 7 * 3 * 3
    values = result.comparison.scores.values
    for row in rows:
        expected = values[row["statistic"]][row["a"], row["b"]][int(row["id"])]
        assert row["value"] == ("" if np.isnan(expected) else str(expected))
        assert row["file"] == f"'=photo {row['id']}.jpg"


def test_markdown_is_saved_with_every_control_on_request(result: xaicmp.Result, tmp_path: Path) -> None:
    result.save(tmp_path / "a.md", details=True)
    assert (tmp_path / "a.md").read_text() == result.table("markdown", details=True)
    assert "Coarser grid" in (tmp_path / "a.md").read_text()
    result.save(tmp_path / "a.tex")
    assert (tmp_path / "a.tex").read_text() == result.to_latex()


def test_a_frame_has_the_values_as_they_are(result: xaicmp.Result) -> None:
    import pandas

    by_image, by_pair = result.to_frame(by="image"), result.to_frame()
    assert by_image["file"][0] == "=photo 0.jpg"
    assert len(by_image) == 63
    assert by_pair["identity"].tolist() == [False] * 3
    assert by_pair["pearson_mean"].tolist() == [each.pearson.mean for each in result]
    assert isinstance(by_pair, pandas.DataFrame)
