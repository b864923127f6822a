"""Maps from a file: our own give the same numbers again, a stranger's do too, and damaged ones one line."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from small import kept, quick, small_engine

from xaicmp.core.attribution import get_methods
from xaicmp.core.images.selection import Selection
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.settings import Settings
from xaicmp.core.run import comparing
from xaicmp.core.run import maps_file as module
from xaicmp.core.run.maps_file import compare_maps
from xaicmp.core.studies.groups import by_images, parts
from xaicmp.errors import UsageError, XaicmpError
from xaicmp.views.document import document

EVERY = Settings(controls=("other_image", "other_image_same_class", "shifted", "pooled"))


def stranger(path: Path, count: int = 6, **arrays: Any) -> Path:
    """A minimal file, and what else is given; None leaves out."""
    rng = np.random.default_rng(0)
    least = {"methods": np.array(["one", "two"]), "maps": rng.normal(size=(2, count, 6, 7))}
    np.savez(path, **{name: each for name, each in (least | arrays).items() if each is not None})
    return path


def written(path: Path, names: list[str], n: int) -> Comparison:
    methods = quick(names, steps=3)
    return kept(path, small_engine(batch_size=4), Selection(n=n, only="all"), methods, EVERY, target="label")[
        1
    ]


def assert_same_outcome(one: Comparison, other: Comparison) -> None:
    """The same document but for where it comes from."""
    first, second = document(one), document(other)
    for key in ("n", "methods", "top", "ci", "pairs", "images"):
        assert first[key] == second[key]
    assert list(one.titles.items()) == list(other.titles.items())
    assert (one.floors, one.pixels) == (other.floors, other.pixels)
    for control, by_statistic in one.scores.controls.items():
        for name, by_pair in by_statistic.items():
            for pair, values in by_pair.items():
                np.testing.assert_array_equal(values, other.scores.controls[control][name][pair])


def test_our_own_file_gives_the_numbers_of_the_comparison_that_wrote_it(
    tmp_path: Path,
) -> None:
    names = ["grad-cam", "saliency:sum-abs", "integrated-gradients", "edge", "random"]
    before = written(tmp_path / "maps.npz", names, 23)
    after = compare_maps(tmp_path / "maps.npz", EVERY)
    assert_same_outcome(before, after)
    assert after.floors == {"edge", "random"}
    assert after.scores.completeness.keys() == {"integrated-gradients"}
    assert document(after)["images"][5]["label"] != document(after)["images"][6]["label"]


def test_it_does_so_in_blocks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (comparing, module):
        monkeypatch.setattr(each, "BLOCK", 6)
    before = written(tmp_path / "maps.npz", ["grad-cam", "saliency", "edge"], 15)
    assert_same_outcome(before, compare_maps(tmp_path / "maps.npz", EVERY))


def test_the_source_is_the_file(tmp_path: Path) -> None:
    path = stranger(tmp_path / "theirs.npz", data=np.array("ImageNet"))
    comparison = compare_maps(path, Settings(seed=3))
    assert comparison.source.about == f"Maps from {path}."
    details = comparison.source.details
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert details["maps"] == {"path": str(path), "sha256": digest}
    assert (details["data"]["name"], details["seed"]) == ("ImageNet", 3)


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", ">f8", "f2", "i8", "u1", "i2"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_strangers_file_needs_methods_and_maps_only(kind: str, compressed: bool, tmp_path: Path) -> None:
    values = (np.random.default_rng(1).random((3, 5, 6, 7)) * 200).astype(kind)
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "m.npz", methods=["one", "two", "three"], maps=np.asfortranarray(values))
    comparison = compare_maps(tmp_path / "m.npz", EVERY)
    assert comparison.pairs == (("one", "two"), ("one", "three"), ("two", "three"))
    assert comparison.titles == {"one": "one", "two": "two", "three": "three"}
    assert comparison.floors == frozenset()
    assert comparison.predictions.ids.tolist() == [0, 1, 2, 3, 4]
    assert comparison.source.classes == ("unknown",)
    assert np.isnan(comparison.predictions.confidence).all()
    flat = values.astype(float).reshape(3, 5, -1)
    for image in range(5):
        expected = scipy.stats.pearsonr(flat[0, image], flat[2, image]).statistic
        found = comparison.scores.values["pearson"]["one", "three"][image]
        assert found == pytest.approx(expected, abs=1e-9)
    assert document(comparison)["images"][0]["confidence"] is None


@pytest.mark.parametrize("scale", [1e-307, 1e-60, 1e60, 1e307])
def test_float64_maps_are_not_rounded_to_float32(scale: float, tmp_path: Path) -> None:
    fine = 1 + 1e-9 * np.random.default_rng(0).random((1, 2, 6, 7))
    values = scale * np.concatenate([fine, fine])
    comparison = compare_maps(stranger(tmp_path / "m.npz", maps=values), Settings())
    assert comparison.scores.values["pearson"]["one", "two"] == pytest.approx([1, 1])
    assert not comparison.scores.tied["iou"]["one", "two"].any()
    large = np.arange(2**24, 2**24 + 2 * 2 * 42, dtype=np.int64).reshape(2, 2, 6, 7)
    found = compare_maps(stranger(tmp_path / "n.npz", maps=large), Settings())
    assert not found.scores.tied["iou"]["one", "two"].any()


@pytest.mark.parametrize(
    ("largest", "kind", "fits"),
    [(2**53, "i8", True), (2**53 + 1, "i8", False), (-(2**53) - 1, "i8", False), (2**64 - 1, "u8", False)],
)
def test_whole_numbers_that_float64_rounds_are_refused(
    largest: int, kind: str, fits: bool, tmp_path: Path
) -> None:
    maps = np.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4).astype(kind)
    maps[1, 2, 3, 3] = largest
    np.savez(tmp_path / "m.npz", methods=["a", "b"], maps=maps)
    if fits:
        assert len(compare_maps(tmp_path / "m.npz", Settings()).predictions) == 3
        return
    with pytest.raises(XaicmpError, match=r"holds maps beyond 2\^53, which float64 rounds; scale them"):
        compare_maps(tmp_path / "m.npz", Settings())


def test_what_the_file_does_not_say_is_unknown(tmp_path: Path) -> None:
    labels, predicted = np.array(list("abcabc")), np.array(list("abbabb"))
    for given, expected in (
        ({}, {"unknown": 6}),
        ({"labels": labels}, {"unknown": 6}),
        ({"predicted": predicted}, {"unknown": 6}),
        ({"labels": labels, "predicted": predicted}, {"right": 4, "wrong": 2}),
    ):
        comparison = compare_maps(stranger(tmp_path / "m.npz", **given), Settings())
        assert {name: len(part.predictions) for name, part in parts(comparison, "correct")} == expected
        assert comparison.predictions.wrong.sum() == expected.get("wrong", 0)
        assert [name for name, _ in parts(comparison, "confidence")] == ["unknown"]
    by_class = {name: part.predictions.ids.tolist() for name, part in parts(comparison, "class")}
    assert by_class == {"a": [0, 3], "b": [1, 4], "c": [2, 5]}


def test_names_may_be_bytes_or_numbers(tmp_path: Path) -> None:
    path = stranger(tmp_path / "m.npz", methods=np.array([b"saliency", b"edge"]), labels=np.arange(6) // 3)
    comparison = compare_maps(path, Settings())
    assert comparison.titles == {"saliency": "Saliency", "edge": get_methods(["edge"])[0].title}
    assert comparison.floors == {"edge"}
    assert [name for name, _ in parts(comparison, "class")] == ["0", "1"]


def test_what_it_does_not_need_is_not_read(tmp_path: Path) -> None:
    path = stranger(tmp_path / "m.npz", notes=np.array([{"a": object}], dtype=object))
    assert compare_maps(path, Settings()).predictions.ids.tolist() == list(range(6))


def test_undefined_values_in_maps_leave_only_their_images_undefined(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(2, 6, 6, 7))
    values[0, 1, 2, 3], values[1, 4, 0, 0] = np.nan, np.inf
    comparison = compare_maps(stranger(tmp_path / "m.npz", maps=values), Settings())
    found = np.isnan(comparison.scores.values["pearson"]["one", "two"])
    assert found.tolist() == [False, True, False, False, True, False]
    assert comparison.summary("pearson", ("one", "two")).n == 4


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no maps": ({"maps": None}, "holds no 'maps'; it needs methods"),
    "no methods": ({"methods": None}, "holds no 'methods'; it needs methods"),
    "three axes": ({"maps": np.ones((2, 6, 7))}, "holds maps of shape (2, 6, 7)"),
    "colours": ({"maps": np.ones((2, 6, 3, 6, 7))}, "holds maps of shape (2, 6, 3, 6, 7)"),
    "zero images": ({"maps": np.ones((2, 0, 6, 7))}, "holds maps of shape (2, 0, 6, 7)"),
    "no pixels": ({"maps": np.ones((2, 6, 0, 7))}, "holds maps of shape (2, 6, 0, 7)"),
    "one pixel": ({"maps": np.ones((2, 6, 1, 1))}, "holds maps of one pixel"),
    "complex": ({"maps": np.ones((2, 6, 6, 7)) * 1j}, "type complex128; it needs numbers"),
    "words": ({"maps": np.full((2, 6, 6, 7), "x")}, "it needs numbers (M, N, H, W)"),
    "one name": ({"methods": np.array(["one"])}, "holds methods of shape (1,)"),
    "a lone name": ({"methods": np.array("one")}, "holds methods of shape ()"),
    "names as numbers": ({"methods": np.array([0.5, 1.5])}, "it needs names (2)"),
    "same name": ({"methods": np.array(["one", "one"])}, "names a method twice; name each once"),
    "one method": (
        {"methods": np.array(["one"]), "maps": np.ones((1, 6, 6, 7))},
        "holds the maps of one method; two or more are needed",
    ),
    **{
        f"{name} of another length": ({name: values}, f"holds {name} of shape (5,)")
        for name, values in {
            "ids": np.arange(5),
            "labels": np.array(list("abcde")),
            "predicted": np.array(list("abcde")),
            "targets": np.array(list("abcde")),
            "confidence": np.ones(5),
        }.items()
    },
    "labels in a table": ({"labels": np.full((6, 1), "a")}, "holds labels of shape (6, 1)"),
    "ids as words": ({"ids": np.array(list("abcdef"))}, "it needs whole numbers (6)"),
    "ids with fractions": ({"ids": np.arange(6) / 2}, "it needs whole numbers (6)"),
    "ids below 0": ({"ids": np.arange(6) - 1}, "holds an id below 0; ids count from 0"),
    "confidence as words": ({"confidence": np.full(6, "high")}, "it needs numbers (6)"),
    "grids of one number": ({"grids": np.array([4, 4])}, "holds grids of shape (2,)"),
    "grids of three": ({"grids": np.full((2, 3), 4)}, "it needs whole numbers (2, 2)"),
    "grids for three": ({"grids": np.full((3, 2), 4)}, "holds grids of shape (3, 2)"),
    "grid of nothing": ({"grids": np.array([[0, 4], [6, 7]])}, "holds a grid that is not between"),
    "grid beyond the map": ({"grids": np.array([[1, 8], [6, 7]])}, "1 x 1 and the maps' 6 x 7"),
    "completeness": ({"completeness": np.ones((2, 5))}, "holds completeness of shape (2, 5)"),
    "pickled maps": ({"maps": np.empty((2, 6, 6, 7), dtype=object)}, "is no .npz file of plain arrays"),
    "pickled labels": ({"labels": np.array([None] * 6)}, "is no .npz file of plain arrays"),
    "not ASCII": ({"labels": np.array(["ü".encode()] * 6)}, "is no .npz file of plain arrays"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_array_is_named_in_one_line(wrong: str, tmp_path: Path) -> None:
    arrays, message = WRONG[wrong]
    path = stranger(tmp_path / "m.npz", **arrays)
    with pytest.raises(XaicmpError) as caught:
        compare_maps(path, EVERY)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def bare_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones((2, 6, 6, 7)))


def text_entry(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("maps", "not an array")
        archive.writestr("methods", "one two")


def cut(path: Path) -> None:
    stranger(path)
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_text("id,map\n1,2\n"), "is no .npz file"),
        (lambda path: path.write_bytes(b""), "is no .npz file"),
        (lambda path: path.write_bytes(b"PK\x03\x04 and then nothing"), "is no .npz file"),
        (bare_array, "is no .npz file"),
        (cut, "is no .npz file"),
        (text_entry, "it needs"),
        (lambda path: None, "No such file or directory; `xaicmp explain` writes one"),
        (lambda path: path.mkdir(), "Is a directory"),
    ],
    ids=["text", "empty", "magic", "npy", "cut", "no arrays", "missing", "folder"],
)
def test_what_is_no_file_of_maps_is_said_so(
    write: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.npz"
    write(path)
    with pytest.raises(XaicmpError) as caught:
        compare_maps(path, Settings())
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_file_is_refused_or_read_but_never_breaks(
    save: Callable[..., None], tmp_path: Path
) -> None:
    path, rng = tmp_path / "m.npz", np.random.default_rng(0)
    save(path, methods=["one", "two"], maps=rng.normal(size=(2, 2, 3, 3)), grids=np.full((2, 2), 2))
    content, refused = path.read_bytes(), 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged[: rng.integers(len(content))] if rng.random() < 0.3 else damaged)
        try:
            compare_maps(path, Settings(controls=()))
        except XaicmpError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 200


@pytest.mark.parametrize("seed", range(5))
def test_an_image_counts_once_however_often_the_file_holds_it(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    rows = np.concatenate([np.arange(6), rng.integers(0, 6, 7)])
    rng.shuffle(rows)
    once = rows[np.sort(np.unique(rows, return_index=True)[1])]
    whole = {
        "maps": rng.normal(size=(2, 6, 6, 7)),
        "ids": rng.permutation(100)[:6],
        "labels": np.array(list("abcabc")),
        "confidence": np.array([0.1, np.nan, 0.3, 0.4, 0.5, 0.6]),
        "completeness": rng.normal(size=(2, 6)),
    }
    whole["maps"][0, 2, 1, 1] = np.nan

    def file(name: str, which: np.ndarray) -> Path:
        parts = {
            key: each[:, which] if key in ("maps", "completeness") else each[which]
            for key, each in whole.items()
        }
        return stranger(tmp_path / name, **parts)

    told: list[str] = []
    found = compare_maps(file("many.npz", rows), EVERY, told.append)
    assert_same_outcome(found, compare_maps(file("once.npz", once), EVERY, told.append))
    assert told == [f"{tmp_path / 'many.npz'}: 7 repeated images left out; each image counts once"]


def test_an_image_without_an_id_counts_once_too(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 4, 6, 7))
    maps[:, 3] = 0  # which may be of any image
    rows, once = [2, 0, 1, 0, 3, 2, 3, 1, 0], [2, 0, 1, 3, 3]
    told: list[str] = []
    found = compare_maps(stranger(tmp_path / "many.npz", maps=maps[:, rows]), EVERY, told.append)
    assert told == [f"{tmp_path / 'many.npz'}: 4 repeated images left out; each image counts once"]
    assert found.predictions.ids.tolist() == [0, 1, 2, 4, 6]
    alone = compare_maps(
        stranger(tmp_path / "once.npz", maps=maps[:, once], ids=np.array([0, 1, 2, 4, 6])), EVERY, told.append
    )
    assert_same_outcome(found, alone)
    named = {"labels": np.array(list("abcdefghi"))}
    other = compare_maps(stranger(tmp_path / "named.npz", maps=maps[:, rows], **named), EVERY, told.append)
    assert (len(other.predictions), len(told)) == (9, 1)


@pytest.mark.parametrize("name", ["maps", "labels", "confidence"])
def test_two_images_under_one_id_are_refused(name: str, tmp_path: Path) -> None:
    arrays = {
        "maps": np.random.default_rng(0).normal(size=(2, 3, 6, 7))[:, [0, 1, 0, 2]],
        "ids": np.array([4, 9, 4, 1]),
        "labels": np.array(list("abac")),
        "confidence": np.array([0.1, 0.2, 0.1, np.nan]),
    }
    changed = arrays[name].copy()
    by_image = changed.swapaxes(0, 1) if name == "maps" else changed
    by_image[2] = by_image[1]
    path = stranger(tmp_path / "m.npz", **arrays | {name: changed})
    with pytest.raises(
        XaicmpError, match=f"two images with id 4, whose {name} differ; give each an id of its own"
    ):
        compare_maps(path, EVERY)
    compare_maps(stranger(tmp_path / "n.npz", **arrays), EVERY)


def test_a_share_that_leaves_no_pixel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"top 0\.01 leaves no pixel of 42"):
        compare_maps(stranger(tmp_path / "m.npz"), Settings(top=0.01))


def bomb(path: Path, shape: tuple[int, ...], content: bytes = b"", method: int = zipfile.ZIP_STORED) -> None:
    """A file whose maps say that they are of ``shape``."""
    head, names = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    np.save(names, np.array(["a", "b"]))
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("maps.npy", head.getvalue() + content)
        archive.writestr("methods.npy", names.getvalue())


@pytest.mark.parametrize("shape", [(2, 10**6, 1000, 500), (2, 10**30, 2, 2), (2, 3, 4, 5), (-2, -3, 4, 5)])
def test_arrays_that_are_not_as_large_as_they_say_are_refused_unread(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    bomb(tmp_path / "a.npz", shape, bytes(100))
    with pytest.raises(XaicmpError, match=r"is no .npz file of plain arrays"):
        compare_maps(tmp_path / "a.npz", Settings())


def test_arrays_that_memory_does_not_hold_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb(tmp_path / "a.npz", (2, 40, 100, 100), bytes(3_200_000), zipfile.ZIP_DEFLATED)
    monkeypatch.setattr("xaicmp.core.run.maps_file.free_memory", lambda device: 10**6)
    with pytest.raises(XaicmpError, match=r"holds 0.0 GiB, more than the memory that is free; split it"):
        compare_maps(tmp_path / "a.npz", Settings())


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_in_any_kind_of_archive_is_one_line(method: int, tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random(2 * 3 * 64, dtype=np.float32)
    bomb(tmp_path / "a.npz", (2, 3, 8, 8), maps.tobytes(), method)
    content, rng = (tmp_path / "a.npz").read_bytes(), np.random.default_rng(1)
    whole, refused = compare_maps(tmp_path / "a.npz", Settings()), 0
    for _ in range(100):
        damaged = bytearray(content)
        for place in rng.integers(len(content), size=3):
            damaged[place] ^= 1 << rng.integers(8)
        (tmp_path / "a.npz").write_bytes(damaged)
        try:
            found = compare_maps(tmp_path / "a.npz", Settings())
        except XaicmpError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert_same_outcome(found, whole)
    assert refused > 50


def test_quartiles_have_names_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for scale in (1.0, 1e-3, 1e-5, 1e-8, 1e-12, 0.0):
        confidence = 1 - scale * rng.random(40)
        np.savez(tmp_path / "a", methods=["a", "b"], confidence=confidence, maps=rng.random((2, 40, 9, 9)))
        names = [
            group.name for group in by_images(compare_maps(tmp_path / "a.npz", Settings()), "confidence")
        ]
        assert len(set(names)) == len(names) == (4 if scale else 1)
