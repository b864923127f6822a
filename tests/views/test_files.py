from __future__ import annotations

import csv
import io
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small import SmallNet, compare_selection, compared, kept, quick, registered, small_engine

from xaicmp.core.attribution import METHODS, PUBLISHED, get_methods
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.settings import Settings
from xaicmp.core.results.verdict import Verdict
from xaicmp.core.run.journal import Journal
from xaicmp.core.run.maps_file import compare_maps, write_maps
from xaicmp.errors import UsageError, XaicmpError
from xaicmp.views.document import document, to_json
from xaicmp.views.formats import comparison_text, format_of, write
from xaicmp.views.table import FORMATS, to_csv, to_markdown
from xaicmp.views.tables.comparison import pairs_records, pairs_table
from xaicmp.views.tables.images import images_records, images_table
from xaicmp.views.text import decimals

resource = pytest.importorskip("resource", reason="limits on file size are POSIX's")


@pytest.fixture(scope="module")
def comparison(sample: ImageSet) -> Comparison:
    return compared(sample, PUBLISHED, (7, 3, 120))[0]


@pytest.fixture(scope="module")
def undefined(sample: ImageSet) -> Comparison:
    """Every Grad-CAM is zero."""
    model = SmallNet()
    with torch.no_grad():
        model.fc.weight.copy_(-model.fc.weight.abs())
    return compared(sample, PUBLISHED, (0, 1, 2), small_engine(model))[0]


def test_the_document_has_the_promised_keys_and_the_scores(comparison: Comparison) -> None:
    found = json.loads(to_json(comparison))
    assert {"xaicmp", "checkpoint", "data", "n", "methods", "top", "seed", "device", "precision"} <= set(
        found
    )
    assert set(found["checkpoint"]) >= {"path", "sha256", "architecture", "test_accuracy"}
    assert set(found["data"]) >= {"name", "split", "verified"}
    assert found["methods"] == ["grad-cam", "saliency", "integrated-gradients"]
    assert (found["n"], found["top"], found["device"]) == (3, 0.2, "cpu")
    assert [(pair["a"], pair["b"]) for pair in found["pairs"]] == list(comparison.pairs)
    classes, chosen = comparison.source.classes, comparison.predictions
    for row, image in enumerate(found["images"]):
        assert type(image["id"]) is int
        assert image["id"] == (7, 3, 120)[row]
        assert image["label"] == classes[chosen.labels[row]]
        assert image["predicted"] == classes[chosen.predicted[row]]
        assert image["confidence"] == chosen.confidence[row]
        for name in ("pearson", "iou"):
            expected = {
                "|".join(pair): values[row] for pair, values in comparison.scores.values[name].items()
            }
            assert image[name] == expected
            places = {
                "|".join(pair): values[row] for pair, values in comparison.scores.shifted_p[name].items()
            }
            assert image["shifted_p"][name] == places
    for pair in found["pairs"]:
        for name in ("pearson", "iou"):
            values = [image[name][f"{pair['a']}|{pair['b']}"] for image in found["images"]]
            assert pair[name]["mean"] == pytest.approx(np.mean(values), abs=1e-12)
            assert pair[name]["std"] == pytest.approx(np.std(values), abs=1e-12)


def test_what_is_undefined_is_null_in_json(undefined: Comparison) -> None:
    text = to_json(undefined)
    assert "NaN" not in text
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    first, second, third = found["pairs"]
    for pair in (first, second):
        assert pair["pearson"]["mean"] is pair["pearson"]["std"] is None
        assert (pair["pearson"]["undefined"], pair["iou"]["undefined"], pair["iou"]["tied"]) == (3, 3, 0)
    assert third["pearson"]["undefined"] == third["iou"]["undefined"] == 0
    for image in found["images"]:
        assert image["pearson"]["grad-cam|saliency"] is None
        assert image["iou"]["grad-cam|saliency"] is None
        assert image["iou"]["saliency|integrated-gradients"] is not None


def rows_of(text: str) -> list[dict[str, str]]:
    assert "\r" not in text
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_holds_the_documents_values(comparison: Comparison) -> None:
    found = document(comparison)
    for row, pair in zip(rows_of(to_csv(pairs_records(comparison))), found["pairs"], strict=True):
        assert (row["a"], row["b"], row["n"], row["verified"]) == (pair["a"], pair["b"], "3", "true")
        for name in ("pearson", "iou"):
            flat = dict(pair[name])
            for key in ("ci", "above_shifted_ci", "explained_by_other_image_ci", "images_above_other_ci"):
                flat[f"{key}_low"], flat[f"{key}_high"] = flat.pop(key)
            above = flat.pop("above_other_image")
            above["ci_low"], above["ci_high"] = above.pop("ci")
            flat |= {f"above_other_image_{key}": value for key, value in above.items()}
            assert {key for key in row if key.startswith(f"{name}_")} == {f"{name}_{key}" for key in flat}
            for key, value in flat.items():
                assert row[f"{name}_{key}"] == ("" if value is None else str(value))
    for row, image in zip(rows_of(to_csv(images_records(comparison))), found["images"], strict=True):
        assert (row["id"], row["label"], row["predicted"]) == (
            str(image["id"]),
            image["label"],
            image["predicted"],
        )
        assert float(row["confidence"]) == image["confidence"]
        for name in ("pearson", "iou"):
            for pair, value in image[name].items():
                assert float(row[f"{name} {pair}"]) == value


def test_what_is_undefined_is_empty_in_csv_and_a_dash_in_markdown(undefined: Comparison) -> None:
    assert rows_of(to_csv(pairs_records(undefined)))[0]["pearson_mean"] == ""
    assert rows_of(to_csv(images_records(undefined)))[0]["pearson grad-cam|saliency"] == ""
    assert "| Grad-CAM vs Saliency | - ± - | - to - |" in to_markdown(pairs_table(undefined))
    assert "| -/- | -/- | 0." in to_markdown(images_table(undefined))
    for form in ("json", *FORMATS):
        for by_image in (False, True):
            assert "nan" not in comparison_text(undefined, form, by_image=by_image).lower()


def test_markdown_is_a_table_with_the_documents_values(comparison: Comparison) -> None:
    found = document(comparison)
    head, rule, *lines = to_markdown(pairs_table(comparison)).splitlines()
    worth = "95% interval | Other image | Verdict"
    assert head == f"| Pair | Pearson | {worth} | IoU@20% | {worth} |"
    assert rule.count("---") == 9
    detailed = to_markdown(pairs_table(comparison, details=True)).splitlines()
    assert detailed[0] == (
        "| Pair | Mean ± std | 95% interval | Other image | Same class | Shifted | Chance | Corrected | "
        "Explained | d_z | Images above | Pairing p |"
    )
    for number, pair in enumerate(found["pairs"]):
        name = " vs ".join(METHODS[pair[side]].title for side in "ab")
        cells, details = [name], detailed[2 + 3 * number : 5 + 3 * number]
        assert details[0] == f"| {name}: {pair['verdict']} |{'  |' * 11}"
        for statistic, detail in zip(("pearson", "iou"), details[1:], strict=True):
            each = pair[statistic]
            controls = ("other_image", "other_image_same_class", "shifted", "chance", "corrected")
            numbers = ["-" if each[key] is None else f"{each[key]:.3f}" for key in controls]
            mean = f"{each['mean']:.3f} ± {each['std']:.3f}"
            ends = f"{each['ci'][0]:.3f} to {each['ci'][1]:.3f}"
            assert each["verdict"] == "n = 3: too few for a test (smallest p 0.25)"
            cells += [mean, ends, numbers[0], Verdict.FEW.short]
            effect = [f"{100 * each[key]:.0f}%" for key in ("explained_by_other_image", "images_above_other")]
            effect.insert(1, f"{each['above_other_image']['d_z']:.2f}")
            effect.append(f"{each['pairing_permutation_p']:.4f}")
            assert detail.split(" | ", 1)[1] == f"{' | '.join([mean, ends, *numbers, *effect])} |"
        assert lines[number] == f"| {' | '.join(cells)} |"
    lines = to_markdown(images_table(comparison)).splitlines()
    assert {line.count("|") for line in lines[:5]} == {8}
    for line, image in zip(lines[2:5], found["images"], strict=True):
        cells = [part.strip() for part in line.strip("|").split("|")]
        assert cells[:2] == [str(image["id"]), image["label"]]
        assert cells[2].removesuffix(" ✗") == image["predicted"]
        assert (" ✗" in cells[2]) == (image["label"] != image["predicted"])
        assert cells[4:] == [
            f"{image['pearson'][pair]:.3f}/{image['iou'][pair]:.3f}" for pair in image["pearson"]
        ]


def test_images_without_confidence_can_be_written_in_every_format(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((3, 2, 12, 12))
    maps[1] = 0  # no statistic with it is defined
    np.savez(tmp_path / "a.npz", methods=["a", "b", "c"], maps=maps)
    outcome = compare_maps(tmp_path / "a.npz", Settings())
    for form in ("json", *FORMATS):
        for by_image in (False, True):
            assert "nan" not in comparison_text(outcome, form, by_image=by_image).lower()
    assert document(outcome)["images"][0]["confidence"] is None


def test_six_pairs_are_written_in_every_format(sample: ImageSet) -> None:
    with registered("brightness", lambda model, images, targets: images.mean(dim=1)):
        outcome, _ = compared(sample, (*PUBLISHED, "brightness"), (0, 1))
        assert len(json.loads(to_json(outcome))["pairs"]) == 6
        assert len(rows_of(to_csv(pairs_records(outcome)))) == 6
        assert to_markdown(pairs_table(outcome)).count(" vs ") == 6
        assert to_markdown(images_table(outcome)).count(" vs ") == 2 * 6


def test_where_it_comes_from_is_in_every_format(comparison: Comparison) -> None:
    assert rows_of(to_csv(pairs_records(comparison)))[0]["checkpoint_sha256"] == "0" * 64
    for text in (to_markdown(pairs_table(comparison)), to_markdown(images_table(comparison))):
        assert "Checkpoint small.pt (test accuracy 12.50%); CIFAR-10 sample in the package" in text


@pytest.mark.parametrize(("name", "form"), [("x.json", "json"), ("a.b/x.CSV", "csv"), ("x.md", "markdown")])
def test_the_suffix_names_the_format(name: str, form: str) -> None:
    assert format_of(Path(name)) == form


@pytest.mark.parametrize("name", ["x", "x.txt", "json", ".json"])
def test_another_suffix_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"must end in \.json, \.csv, \.md"):
        format_of(Path(name))


def test_text_is_written_whole_and_in_utf8(tmp_path: Path) -> None:
    write(tmp_path / "x.md", "± 1\n")
    assert (tmp_path / "x.md").read_bytes() == "± 1\n".encode()
    with pytest.raises(XaicmpError, match="does not exist"):
        write(tmp_path / "none" / "x.md", "")


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_maps_come_back_as_they_went_in(batch_size: int, sample: ImageSet, tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    engine, methods = small_engine(batch_size=batch_size), quick(PUBLISHED, steps=2)
    seen, _ = kept(path, engine, Selection(n=10, only="all"), methods)
    with np.load(path, allow_pickle=False) as arrays:
        found = dict(arrays)
    assert found["maps"].shape == (3, 10, 32, 32)
    assert found["maps"].dtype == np.float32
    np.testing.assert_array_equal(found["maps"], torch.cat([each.maps for each in seen], dim=1).numpy())
    assert found["images"].dtype == np.uint8
    np.testing.assert_array_equal(found["images"], sample.tensor[:10].permute(0, 2, 3, 1).numpy())
    assert found["ids"].tolist() == list(range(10))
    assert found["labels"].tolist() == [sample.classes[label] for label in sample.labels[:10]]
    assert found["predicted"].tolist() == [
        sample.classes[each] for batch in seen for each in batch.predictions.predicted
    ]
    assert found["confidence"].tolist() == [each for batch in seen for each in batch.predictions.confidence]
    assert found["targets"].tolist() == found["predicted"].tolist()
    assert found["methods"].tolist() == list(PUBLISHED)
    assert found["grids"].tolist() == [[8, 8], [32, 32], [32, 32]]
    gaps = np.concatenate([each.completeness["integrated-gradients"] for each in seen])
    np.testing.assert_array_equal(found["completeness"][2], gaps)
    assert np.isnan(found["completeness"][:2]).all()
    assert [each.name for each in tmp_path.iterdir()] == ["maps.npz"]


def test_maps_are_on_the_disk_before_the_next_batch_comes(tmp_path: Path) -> None:
    engine, sizes = small_engine(batch_size=8), []

    def look(explanations: Explanations) -> None:
        sizes.append(sum(each.stat().st_size for each in tmp_path.rglob("*") if each.is_file()))

    journal = Journal(tmp_path / "maps.npz", {})
    selection = Selection(n=64, only="all")
    compare_selection(engine, selection, get_methods(["saliency", "edge"]), keep=look, journal=journal)
    assert len(sizes) == 8
    assert all(later > sooner for sooner, later in itertools.pairwise(sizes))


@pytest.mark.parametrize("limit", [100, 3_000, 60_000, 200_000])
def test_no_room_for_the_maps_is_one_error_and_the_old_file_stays(limit: int, tmp_path: Path) -> None:
    """Wherever writing stops: at the plan, in a batch, or in the archive."""
    path = tmp_path / "maps.npz"
    path.write_bytes(b"old")
    engine, methods = small_engine(batch_size=4), quick(PUBLISHED, steps=2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(XaicmpError, match=r"cannot write .*maps\.npz.*: File too large"):
            journal = Journal(path, {})
            selection = Selection(n=20, only="all")
            images, comparison = compare_selection(engine, selection, methods, journal=journal)
            write_maps(path, journal, images, comparison)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old"
    assert {each.name for each in tmp_path.iterdir()} == {"maps.npz", "maps.npz.part"}


def test_numbers_are_never_rounded_in_files(comparison: Comparison) -> None:
    for row in rows_of(to_csv(images_records(comparison))):
        value = float(row["pearson saliency|integrated-gradients"])
        assert not math.isclose(value, round(value, 6), rel_tol=0, abs_tol=1e-12)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-0.0004, "0.000"), (-0.0006, "-0.001"), (0.1235, "0.123"), (1, "1.000"), (math.nan, "-"), (None, "-")],
)
def test_shown_numbers_have_three_decimals_and_zero_has_no_sign(value: float | None, shown: str) -> None:
    assert decimals(value) == shown


def test_maps_may_be_named_like_a_batch_of_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "000000.npz"
    engine, methods = small_engine(batch_size=4), quick(PUBLISHED, steps=2)
    journal = Journal(path, {})
    images, comparison = compare_selection(engine, Selection(n=8, only="all"), methods, journal=journal)
    write_maps(path, journal, images, comparison)
    assert (journal.batches, journal.images) == (2, 8)
    with np.load(path) as arrays:
        assert arrays["ids"].tolist() == list(range(8))


def test_pixels_are_written_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, methods = small_engine(batch_size=4), quick(PUBLISHED, steps=2)
    journal = Journal(tmp_path / "a.npz", {})
    images, comparison = compare_selection(engine, Selection(n=10, only="all"), methods, journal=journal)
    asked: list[int] = []
    pixels = images.pixels
    monkeypatch.setattr(type(images), "pixels", lambda self, ids: asked.append(len(ids)) or pixels(ids))
    write_maps(tmp_path / "a.npz", journal, images, comparison)
    assert asked == [4, 4, 2]
    with np.load(tmp_path / "a.npz") as arrays:
        expected = pixels(np.arange(10)).permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(arrays["images"], expected)
