"""Photographs in files: every form people have them in, and what cannot be read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small import small_classifier
from torchvision.models import get_model_weights
from torchvision.transforms import InterpolationMode, functional

import xaicmp
from xaicmp.core.images.classes import by_number, match_classes
from xaicmp.core.images.files import FileImages, find_files, read_image, to_rgb
from xaicmp.core.images.framing import Framing
from xaicmp.core.images.source import Unreadable
from xaicmp.errors import UsageError, XaicmpError

FRAMING = Framing((8, 8))
colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.png", "a/1.png", "a/10.PNG", "b/deep/3.png"):
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colours).save(Path("photos", name))
    Path("photos/a/notes.txt").write_text("no image")
    Path("photos/a/.hidden.png").write_bytes(b"")
    return tmp_path


def names(source: FileImages) -> list[str]:
    return source.names(np.arange(len(source)))


def test_a_folder_of_folders_has_classes(folder: Path) -> None:
    found = find_files(["photos"], FRAMING)
    assert names(found) == ["a/1.png", "a/10.PNG", "b/2.png", "b/deep/3.png"]
    assert (found.classes, found.labels.tolist()) == (("a", "b"), [0, 0, 1, 1])
    assert found.name == "photos"
    assert torch.equal(found.pixels(np.array([2]))[0], torch.from_numpy(colours).permute(2, 0, 1))


def test_images_beside_folders_have_no_classes(folder: Path) -> None:
    Image.fromarray(colours).save("photos/0.jpg")
    assert find_files(["photos"], FRAMING).labels is None


def test_patterns_lists_and_files_name_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = [str(path) for path in find_files(["photos"], FRAMING).paths]
    Path("photos/list.txt").write_text("a/1.png\na/10.PNG\n\nb/2.png\nb/deep/3.png\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(every)))
    for words in (
        every,
        ["photos/**/*.png", "photos/a/10.PNG"],
        ["photos/list.txt"],
        ["-"],
        ["photos/a", "photos/b"],
    ):
        assert sorted(map(str, find_files(words, FRAMING).paths)) == sorted(every), words
    assert len(find_files([every[0], every[0]], FRAMING)) == 1  # one image, one vote


def test_hidden_folders_and_links_that_lead_back_are_left_out(folder: Path) -> None:
    Path("photos/.ipynb_checkpoints").mkdir()
    Path("photos/.ipynb_checkpoints/1.png").write_bytes(Path("photos/a/1.png").read_bytes())
    Path("photos/a/loop").symlink_to("..")
    Path("photos/c").symlink_to("b")  # a folder of its own
    found = find_files(["photos"], FRAMING)
    assert names(found) == ["a/1.png", "a/10.PNG", "b/2.png", "b/deep/3.png", "c/2.png", "c/deep/3.png"]
    assert found.classes == ("a", "b", "c")


def test_a_photograph_counts_once_however_its_path_is_written(folder: Path) -> None:
    Path("link.png").symlink_to("photos/a/1.png")
    Path("elsewhere").symlink_to("photos/b/deep")
    words = ["photos/a/1.png", "./photos/b/../a/1.png", folder / "photos/a/1.png", "link.png", "photos/a"]
    assert find_files(words, FRAMING).paths == [Path(words[0]), Path("link.png"), Path("photos/a/10.PNG")]
    Image.fromarray(colours).save("2.png")
    found = find_files(["2.png", "elsewhere/../2.png"], FRAMING)  # behind the link, ".." leads to photos/b
    assert len(found) == 2


def test_what_is_called_like_an_image_and_is_none(folder: Path) -> None:
    Path("photos/b/x.png").mkdir()
    Path("photos/b/x.png/4.png").write_bytes(Path("photos/a/1.png").read_bytes())
    Path("photos/b/gone.png").symlink_to("nowhere")
    found = find_files(["photos"], FRAMING)
    assert names(found)[2:] == ["b/2.png", "b/deep/3.png", "b/gone.png", "b/x.png/4.png"]
    assert found.readable(np.arange(len(found)))[2] == {4: "photos/b/gone.png: No such file or directory"}


def test_absolute_and_relative_paths_together(folder: Path) -> None:
    found = find_files([Path("photos/a/1.png").absolute(), "photos/b/2.png"], FRAMING)
    assert names(found) == ["photos/a/1.png", "photos/b/2.png"]


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (
            b"\xef\xbb\xbfpath,label\r\na/1.png,cat\r\n\r\nb/2.png,dog\r\n",
            {"a/1.png": "cat", "b/2.png": "dog"},
        ),
        (b'file, class\n"a/1.png", "cat, tame"\n', {"a/1.png": "cat, tame"}),
        (b"label,fold,image\ncat,3,a/1.png\n", {"a/1.png": "cat"}),
        (b"a/1.png,target\nb/2.png,dog\n", {"a/1.png": "target", "b/2.png": "dog"}),  # no head
        (b"1,cat\n3,dog\n", {"a/1.png": "cat", "b/deep/3.png": "dog"}),
        (b"a/1.png,cat\na/1.png,cat\nnowhere.png,dog\n", {"a/1.png": "cat"}),
    ],
)
def test_forms_of_a_file_of_labels(folder: Path, content: bytes, labels: dict[str, str]) -> None:
    Path("photos/labels.csv").write_bytes(content)
    Path("photos/b/self.png").symlink_to("self.png")
    found = find_files(["photos"], FRAMING, labels=Path("photos/labels.csv"))
    assert {
        name: found.classes[label] for name, label in zip(names(found), found.labels, strict=True)
    } == labels


def test_labels_from_a_file(folder: Path) -> None:
    Path("labels.csv").write_text("path,index,label\nphotos/b/2.png,7,dog\nphotos/a/1.png,3,cat\n")
    found = find_files(["photos"], FRAMING, labels=Path("labels.csv"))
    assert (names(found), found.classes, found.labels.tolist()) == (
        ["b/2.png", "a/1.png"],
        ("cat", "dog"),
        [1, 0],
    )
    Path("bare.csv").write_text("2.png,7\n1.png,3\n")
    assert find_files(["photos"], FRAMING, labels=Path("bare.csv")).classes == ("3", "7")
    Path("map.json").write_text('{"cat": "tabby"}')
    mapped = find_files(["photos"], FRAMING, labels=Path("labels.csv"), label_map=Path("map.json"))
    assert mapped.classes == ("dog", "tabby")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("map.json", '{"a": "tabby", "b": "dog", "a": "lion"}', "a has two classes, tabby and lion"),
        ("map.csv", "a,tabby\na,lion\n", "a has two classes, tabby and lion"),
        ("map.csv", "cat,tabby\ndog,lion\n", "none of its 2 labels is one of the images', as a;"),
        ("map.json", "{}", "none of its 0 labels"),
        ("map.json", '["a", "b"]', "write a label and a class per line"),
    ],
)
def test_a_translation_that_is_not_clear_is_refused(folder: Path, name: str, text: str, said: str) -> None:
    Path(name).write_text(text)
    with pytest.raises(XaicmpError, match=said):
        find_files(["photos"], FRAMING, label_map=Path(name))
    Path(name).write_text('{"a": "x", "a": "x"}' if name.endswith("json") else "unused,y\na,x\na,x\n")
    assert find_files(["photos"], FRAMING, label_map=Path(name)).classes[-1] == "x"


def test_a_line_about_another_file_of_the_same_name_labels_none(folder: Path) -> None:
    """Neither the one in another folder, nor one of two."""
    Path("labels.csv").write_text("other/1.png,dog\nphotos/b/2.png,cat\n")
    found = find_files(["photos"], FRAMING, labels=Path("labels.csv"))
    assert (names(found), found.classes) == (["b/2.png"], ("cat",))
    Path("labels.csv").write_text("a/1.png,dog\n2.png,cat\n")  # the ends of their paths
    assert names(find_files(["photos"], FRAMING, labels=Path("labels.csv"))) == ["a/1.png", "b/2.png"]
    Path("labels.csv").write_text("photos/a/1.png,dog\n1.png,cat\n")
    with pytest.raises(XaicmpError, match="has two labels, dog and cat"):
        find_files(["photos"], FRAMING, labels=Path("labels.csv"))


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (["none"], {}, "images none: no such file or folder"),
        (["empty"], {}, "empty: no image there"),
        (["photos"], {"labels": "none.csv"}, "cannot read none.csv"),
        (["photos"], {"labels": "one.csv"}, "fewer than two columns"),
        (["photos"], {"labels": "other.csv"}, "none of its 1 paths"),
        (["photos"], {"labels": "empty.csv"}, "none of its 0 paths"),
        (["photos"], {"labels": "size.csv"}, "names no column label, nor class, .*; name it"),
        (["photos"], {"labels": "fold.csv"}, "names no column path, nor file, .*; name it"),
        (["photos"], {"labels": "twice.csv"}, "photos/a/1.png has two labels; give it one"),
        (["photos"], {"labels": "short.csv"}, "photos/a/1.png,3 has too few columns"),
    ],
)
def test_what_is_not_there_is_one_line(
    folder: Path, words: list[str], options: dict[str, str], message: str
) -> None:
    Path("empty").mkdir()
    Path("one.csv").write_text("a\n")
    Path("other.csv").write_text("x.png,cat\n")
    Path("empty.csv").touch()
    Path("size.csv").write_text("path,size\nphotos/a/1.png,3\n")
    Path("fold.csv").write_text("id,label,fold\n1,cat,3\n")
    Path("twice.csv").write_text("photos/a/1.png,cat\nphotos/a/1.png,dog\n")
    Path("short.csv").write_text("path,size,label\nphotos/a/1.png,3\n")
    with pytest.raises(XaicmpError, match=message):
        find_files(words, FRAMING, **{name: Path(value) for name, value in options.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tiff", "gif"])
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    flat = Image.new("RGB", (20, 10), (200, 40, 90))
    flat.save(tmp_path / f"a.{suffix}")
    seen = FileImages([tmp_path / f"a.{suffix}"], FRAMING).pixels(np.array([0]))[0].float()
    assert (seen - torch.tensor([200.0, 40, 90]).view(3, 1, 1)).abs().max() < 8


def modes() -> dict[str, tuple[Image.Image, tuple[int, int, int]]]:
    red, grey = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("L", (4, 4), 100)
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    deep = Image.fromarray(np.full((4, 4), 100 * 257, dtype=np.uint16))
    palette = red.quantize(4)
    see_through = Image.new("P", (4, 4), 0)
    see_through.putpalette([255, 0, 0] + [0] * 765)
    see_through.info["transparency"] = 0
    return {
        "grey": (grey, (100, 100, 100)),
        "one bit": (Image.new("1", (4, 4), 1), (255, 255, 255)),
        "palette": (palette, (255, 0, 0)),
        "transparent palette": (see_through, (255, 255, 255)),
        "clear": (clear, (255, 255, 255)),
        "half clear": (half, (255, 127, 127)),
        "grey and alpha": (Image.new("LA", (4, 4), (0, 0)), (255, 255, 255)),
        "CMYK": (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), (255, 0, 0)),
        "16 bits": (deep, (100, 100, 100)),
        "32 bits of 8": (Image.new("I", (4, 4), 100), (100, 100, 100)),
    }


@pytest.mark.parametrize("mode", modes())
def test_every_mode_becomes_what_it_looks_like(mode: str) -> None:
    image, colour = modes()[mode]
    found = to_rgb(image)
    assert found.mode == "RGB"
    assert max(abs(a - b) for a, b in zip(found.getpixel((1, 1)), colour, strict=True)) <= 1  # type: ignore[arg-type]


def test_numbers_of_an_unknown_range_are_named(tmp_path: Path) -> None:
    Image.fromarray(colours[..., 0].astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(Unreadable, match="floating-point numbers of an unknown range"):
        find_files([tmp_path], FRAMING).pixels(np.array([0]))


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_rotation_in_exif_is_undone(tmp_path: Path, turn: int) -> None:
    shown = np.zeros((8, 8, 3), np.uint8)
    shown[:4, :4], shown[:4, 4:], shown[4:, :4] = 250, 100, 50
    stored = {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.swapaxes(0, 1),
        6: np.rot90(shown),
        7: shown[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(shown, -1),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    seen = FileImages([tmp_path / "a.png"], FRAMING).pixels(np.array([0]))[0]
    assert torch.equal(seen, torch.from_numpy(shown).permute(2, 0, 1))


@given(
    st.integers(8, 90),
    st.integers(8, 90),
    st.sampled_from([1.0, 0.875, 0.9, 32 / 37]),
    st.sampled_from(["bilinear", "bicubic"]),
)
def test_framing_is_what_torchvision_does(width: int, height: int, share: float, how: Any) -> None:
    image = Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))
    resized = functional.resize(image, int(32 / share + 1e-6), InterpolationMode(how))
    expected = functional.pil_to_tensor(functional.center_crop(resized, 32))
    assert torch.equal(Framing((32, 32), share, how)(image), expected)


def test_sides_that_differ_cover_the_image() -> None:
    assert Framing((20, 30), 0.5)(Image.fromarray(colours)).shape == (3, 20, 30)


def test_what_cannot_be_read_is_named_and_left_out(folder: Path) -> None:
    Path("photos/a/0.jpg").write_bytes(b"no image")
    whole = Path("photos/b/2.png").read_bytes()
    Path("photos/b/9.png").write_bytes(whole[: len(whole) // 2])
    for value, name in enumerate(("a/10.PNG", "b/2.png", "b/deep/3.png"), 1):
        Image.fromarray(colours ^ value).save(Path("photos", name))
    source = find_files(["photos"], FRAMING)
    with pytest.raises(Unreadable) as caught:
        source.pixels(np.arange(len(source)))
    assert sorted(caught.value.reasons) == [0, 4]
    said: list[str] = []
    result = xaicmp.compare(
        small_classifier(input_size=(8, 8)),
        source,
        methods=["saliency", "input-x-gradient"],
        running=xaicmp.Running(remark=said.append, batch_size=2),
    )
    assert len(result) == 4
    assert [line for line in said if "0.jpg" in line] and "2 files are left out" in said[-1]
    strict = find_files(["photos"], FRAMING, strict=True)
    with pytest.raises(XaicmpError, match=r"0\.jpg"):
        strict.pixels(np.arange(len(source)))


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(Unreadable, match="bomb"):
        FileImages([tmp_path / "bomb.png"], FRAMING).pixels(np.array([0]))


def test_images_are_found_by_name(folder: Path) -> None:
    source = find_files(["photos"], FRAMING)
    assert [source.find(name) for name in ("a/1.png", "10.PNG", "2", "photos/b/deep/3.png")] == [0, 1, 2, 3]
    assert source.find(str(Path("photos/b/2.png").absolute())) == 2
    with pytest.raises(UsageError, match="no such file among the 4"):
        source.find("cat.jpg")
    Path("photos/b/1.png").write_bytes(Path("photos/a/1.png").read_bytes())
    with pytest.raises(UsageError, match="2 files have this name"):
        find_files(["photos"], FRAMING).find("1.png")


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path: Path) -> None:
    paths = []
    for index in range(3000):
        paths.append(tmp_path / f"{index}.png")
        paths[-1].write_bytes(b"")
    source = find_files([tmp_path], FRAMING)
    assert len(source) == 3000 and source.size() == (8, 8)
    paths[7].unlink()
    assert len(source) == 3000


def test_each_file_is_decoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Path] = []

    def counted(path: Path, framing: Framing) -> torch.Tensor:
        decoded.append(path)
        return read_image(path, framing)

    monkeypatch.setattr("xaicmp.core.images.files.read_image", counted)
    source = find_files(["photos"], FRAMING)
    first, second = np.array([0, 1]), np.array([2, 3])
    source.ahead(first)
    source.ahead(second)
    [
        each.result() for each in source._started.values()
    ]  # the second batch is ready before the first is asked for
    for ids in (first, first, second):
        source.pixels(ids)
    assert sorted(decoded) == sorted(source.paths)


def test_classes_are_matched_by_name() -> None:
    model = ("tench, Tinca tinca", "great white shark", "crane")
    assert match_classes(["Great_White-shark", "Tinca tinca", "tench", "dog"], model).tolist() == [
        1,
        0,
        0,
        -1,
    ]
    assert match_classes(["b", "a"], ()).tolist() == [0, 1]


def test_wordnet_ids_are_names_of_imagenets_classes() -> None:
    timm = pytest.importorskip("timm")
    wanted = ["n01440764", "n15075141", "n00000000"]  # the first of ImageNet's 1000 classes, and the last
    categories = get_model_weights("resnet50").DEFAULT.meta["categories"]
    descriptions = timm.data.ImageNetInfo().label_descriptions()
    for model in (categories, descriptions):
        assert match_classes(wanted, model).tolist() == [0, 999, -1]
        assert match_classes(wanted, tuple(reversed(model))).tolist() == [-1, -1, -1]


@settings(deadline=None)
@given(st.permutations([str(each) for each in range(12)]))
def test_numbers_are_names_first_and_indices_only_if_no_class_is_called_so(names: list[str]) -> None:
    folders = sorted(names)
    assert [names[each] for each in match_classes(folders, names)] == folders
    for model in ([f"class {each}" for each in range(12)], ()):
        assert match_classes(folders, model).tolist() == [int(each) for each in folders]
        assert by_number(folders, model)
    assert not by_number(folders, names)
    assert match_classes(["0", "12"], ["cat"]).tolist() == [0, -1]


def test_the_sample_as_png_folders_gives_the_same_numbers(tmp_path: Path) -> None:
    sample = xaicmp.load_images()
    ids = np.arange(40)
    for index, pixels in zip(ids, sample.pixels(ids), strict=True):
        place = tmp_path / sample.classes[sample.labels[index]] / f"{index:04}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(place)
    model = xaicmp.load_model()
    photos = xaicmp.load_images(tmp_path, model=model)
    order = [int(Path(name).stem) for name in photos.names(np.arange(40))]
    methods = ["grad-cam", "saliency"]
    one = xaicmp.compare(model, photos, methods=methods, select=xaicmp.Selection(n=20))
    kept = [order[each] for each in one.comparison.predictions.ids]
    other = xaicmp.compare(
        model, sample, methods=methods, select=xaicmp.Selection(ids=tuple(kept), only="all")
    )
    for statistic in ("pearson", "iou"):
        pair = ("grad-cam", "saliency")
        assert np.array_equal(
            one.comparison.scores.values[statistic][pair], other.comparison.scores.values[statistic][pair]
        )
