"""Maps compared with masks, beside Quantus, scikit-learn and sums by hand; masks seen as the network sees the image."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from small import small_classifier

import xaicmp
from xaicmp.core.agreement.top_pixels import expected_iou
from xaicmp.core.images.files import FileImages
from xaicmp.core.images.framing import Framing
from xaicmp.core.images.masks import load_masks
from xaicmp.core.results.settings import Settings
from xaicmp.core.studies.localisation import MEASURES, localise, measures
from xaicmp.errors import XaicmpError

RNG = np.random.default_rng(0)
FIRST = np.arange(1)


def by_hand(scores: np.ndarray, mask: np.ndarray, top: float) -> dict[str, float]:
    """One map and one mask, in plain NumPy; the AUC is scikit-learn's."""
    flat, inside = scores.ravel().astype(float), mask.ravel()
    order = np.argsort(-flat, kind="stable")
    count, positive = int(top * flat.size), np.clip(flat, 0, None)
    chosen = np.isin(np.arange(flat.size), order[:count])
    return {
        "pointing": float(inside[order[0]]),
        "mass": positive[inside].sum() / positive.sum(),
        "rank": inside[order[: inside.sum()]].mean(),
        "iou": (chosen & inside).sum() / (chosen | inside).sum(),
        "auc": roc_auc_score(inside, flat),
    }


def test_each_measure_of_each_map_with_each_mask() -> None:
    """With ties and negative values, and other images' masks as the control."""
    maps = torch.from_numpy(np.round(RNG.normal(size=(6, 9, 8)), 1).astype(np.float32))
    masks = torch.from_numpy(RNG.random((6, 9, 8)) < RNG.uniform(0.1, 0.6, (6, 1, 1)))
    found = measures(maps, masks, 0.2)
    for i in range(6):
        for j in range(6):
            expected = by_hand(maps[i].numpy(), masks[j].numpy(), 0.2)
            assert {name: float(each[i, j]) for name, each in found.items()} == pytest.approx(expected)
    located = localise(maps[None], masks, {"a": "A"}, Settings())
    for name, each in found.items():
        others = each.masked_fill(torch.eye(6, dtype=torch.bool), torch.nan)
        assert located.control(name, "a", "other_mask") == pytest.approx(float(others.nanmean()))
        np.testing.assert_array_equal(located.values[name]["a"], each.diagonal())


def test_the_measures_are_those_of_quantus() -> None:
    reason = "Quantus is not installed (pip install --no-deps quantus cachetools)"
    quantus = pytest.importorskip("quantus", reason=reason)
    maps = torch.from_numpy(RNG.random((6, 9, 8)))
    masks = torch.from_numpy(RNG.random((6, 9, 8)) < RNG.uniform(0.1, 0.6, (6, 1, 1)))
    found, count = measures(maps, masks, 0.2), int(0.2 * 72)
    batch = {"a_batch": maps[:, None].numpy(), "s_batch": masks[:, None].numpy()}
    same = {"abs": False, "normalise": False, "disable_warnings": True}
    expected = {
        "pointing": quantus.PointingGame(**same),
        "mass": quantus.RelevanceMassAccuracy(**same),
        "rank": quantus.RelevanceRankAccuracy(**same),
        "auc": quantus.AUC(**same),
    }
    for name, metric in expected.items():
        np.testing.assert_allclose(found[name].diagonal(), metric.evaluate_batch(**batch), err_msg=name)
    both = count * quantus.TopKIntersection(k=count, **same).evaluate_batch(**batch)
    sizes = masks.flatten(1).sum(dim=1).numpy()
    np.testing.assert_allclose(found["iou"].diagonal(), both / (count + sizes - both))


def test_what_cannot_be_measured_is_undefined_and_counted() -> None:
    maps = torch.rand(5, 6, 6)
    maps[0], maps[1] = 1, -1 - maps[1]
    masks = torch.zeros(5, 6, 6, dtype=torch.bool)
    masks[[0, 1, 4], 2:4, 1:5] = True
    masks[2] = True
    located = localise(maps[None], masks, {"a": "A"}, Settings())
    assert located.empty == 2
    for name in MEASURES:
        undefined = np.isnan(located.values[name]["a"])
        assert undefined.tolist() == [True, name == "mass", True, True, False]  # no positive relevance
        assert np.isnan(located.controls["chance"][name]["a"]).tolist() == [False, False, True, True, False]


def test_unrelated_maps_are_at_chance_and_the_mask_itself_is_best() -> None:
    count, pixels = 400, 64
    maps, masks = torch.rand(1, count, 8, 8), torch.rand(count, 8, 8) < 0.3
    located = localise(maps, masks, {"a": "A"}, Settings())
    for name in MEASURES:
        assert located.above(name, "chance")["a"].difference == pytest.approx(0, abs=0.05)
        assert not located.above(name, "other_mask")["a"].p < 0.001
    best = localise(masks[None].float(), masks, {"a": "A"}, Settings())
    for name in ("pointing", "mass", "rank", "auc"):
        assert best.summary(name, "a").mean == 1
    assert best.above("mass", "other_mask")["a"].p < 0.001
    both = np.array([RNG.permutation(pixels)[:12] < 20 for _ in range(20_000)]).sum(axis=1)
    assert expected_iou(12, 20, pixels) == pytest.approx((both / (32 - both)).mean(), abs=0.002)


def photograph(folder: Path, name: str, size: tuple[int, int] = (60, 40)) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path)
    return path


def test_masks_and_boxes_are_resized_and_cropped_like_the_image(tmp_path: Path) -> None:
    path = photograph(tmp_path / "photos", "cat.png")
    images = FileImages([path], Framing((20, 20), 0.8))
    mask = np.zeros((40, 60), np.uint8)
    mask[10:31, 25:44] = 1
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "cat.png")  # 0 and 1 are as good as 0 and 255
    (tmp_path / "boxes.csv").write_text("path,x0,y0,x1,y1\ncat.png,25,10,44,31\n")
    seen = load_masks(images, FIRST, tmp_path / "masks")[0]
    drawn = Image.fromarray(255 * mask).convert("RGB")
    assert torch.equal(seen, images.framing(drawn)[0] >= 128)
    # 40 pixels become 25, of which the middle 20 are seen: 10 is at 6.25 - 2.5, and 31 at 19.4 - 2.5.
    assert np.flatnonzero(seen.any(dim=1)).tolist() == list(range(4, 17))
    assert torch.equal(load_masks(images, FIRST, tmp_path / "boxes.csv")[0], seen)
    palette = Image.fromarray(mask * 3).convert("P")
    palette.save(tmp_path / "masks" / "cat.png")
    assert torch.equal(load_masks(images, FIRST, tmp_path / "masks")[0], seen)


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        ("cat.png,1,2,3", "is no box"),
        ("cat.png,5,2,3,9", "is no box"),
        ("cat.png,a,2,3,9", "could not convert"),
        ("cat.png,nan,2,3,9", "is no box"),
        ("dog.png,1,2,3,4", "no mask for any of the 1 images"),
        ("cat.png,70,50,80,60", "no mask for any"),
    ],
)
def test_a_wrong_box_is_said(tmp_path: Path, boxes: str, said: str) -> None:
    images = FileImages([photograph(tmp_path, "cat.png")], Framing((20, 20)))
    (tmp_path / "boxes.csv").write_text(boxes)
    with pytest.raises(XaicmpError, match=re.escape(said)):
        load_masks(images, FIRST, tmp_path / "boxes.csv")


def test_a_wrong_mask_is_said(tmp_path: Path) -> None:
    images = FileImages([photograph(tmp_path / "photos", "cat.png")], Framing((20, 20)))
    photograph(tmp_path / "masks", "cat.png", (30, 40))
    with pytest.raises(XaicmpError, match="30 x 40 pixels, not 60 x 40"):
        load_masks(images, FIRST, tmp_path / "masks")
    for folder in "ab":
        photograph(tmp_path / "twice" / folder, "cat.png")
    with pytest.raises(XaicmpError, match="no mask for any of the 1 images"):
        load_masks(images, FIRST, tmp_path / "twice")


def test_a_mask_is_of_no_image_in_another_folder(tmp_path: Path) -> None:
    paths = [photograph(tmp_path / "photos" / folder, "1.png") for folder in ("cat", "dog")]
    images, ids = FileImages(paths, Framing((20, 20))), np.arange(2)
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[10:30, 20:40] = 255
    (tmp_path / "masks" / "cat").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "masks" / "cat" / "1.png")
    assert load_masks(images, ids, tmp_path / "masks").any(dim=(1, 2)).tolist() == [True, False]
    Image.fromarray(mask).save(tmp_path / "masks" / "1.png")
    with pytest.raises(XaicmpError, match="the mask 1 may be of 2 images"):
        load_masks(images, ids, tmp_path / "masks")
    alone = FileImages(paths[1:], Framing((20, 20)))
    assert load_masks(alone, FIRST, tmp_path / "masks").any()


def test_the_study_is_asked_for_saved_and_loaded(tmp_path: Path, capsys: Any) -> None:
    from xaicmp.cli import run

    (tmp_path / "boxes.csv").write_text("".join(f"{id},4,4,28,28\n" for id in range(7)))
    line = [
        "metrics",
        "--ids",
        "0-7",
        "--methods",
        "saliency",
        "edge",
        "--masks",
        str(tmp_path / "boxes.csv"),
    ]
    assert run([*line, "--quiet", "--output", str(tmp_path / "out.json")]) == 0
    shown = capsys.readouterr().out
    assert "Do the maps point at the object?" in shown
    assert "masks that are missing, empty, cropped away or everything (1)." in " ".join(shown.split())
    data = json.loads((tmp_path / "out.json").read_text())["localisation"]
    assert [each["method"] for each in data] == ["saliency", "edge", "centre"]
    assert data[0]["mass"]["chance"] == pytest.approx(24 * 24 / 1024)
    assert (data[0]["auc"]["n"], data[0]["auc"]["undefined"]) == (7, 1)
    assert xaicmp.load(tmp_path / "out.json").studies["localisation"] == data
    assert run(["metrics", "--masks", "none", "--quiet"]) == 1
    assert "cannot read --masks none: No such file or directory" in capsys.readouterr().err


def test_masks_in_memory_are_checked(sample: Any) -> None:
    images = xaicmp.load_images(sample.tensor[:6].float() / 255)
    result = xaicmp.compare(small_classifier(), images, methods=["saliency", "edge"])
    masks = torch.zeros(6, 32, 32, dtype=torch.bool)
    masks[:, 8:20, 8:20] = True
    assert result.localisation(masks).summary("auc", "saliency").n == 6
    with pytest.raises(xaicmp.UsageError, match="one per image"):
        result.localisation(masks[:3])
