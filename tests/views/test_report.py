"""The page: what it holds, that nothing from outside steers it, and what it does in a real browser."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from small import small_classifier

import xaicmp
from xaicmp.core.agreement.controls import DEFAULT_CONTROLS
from xaicmp.core.agreement.top_pixels import top_pixels
from xaicmp.core.images.source import ImageSource
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.predictions import Predictions
from xaicmp.errors import UsageError, XaicmpError
from xaicmp.result import Result
from xaicmp.views.document import IMAGE, to_json
from xaicmp.views.report.gallery import LEVELS, MOST, UNDEFINED, Gallery
from xaicmp.views.report.page import write_report
from xaicmp.views.table import Table, to_html

IMAGES = 12
HOSTILE = (
    "</script><script>window.hacked=1</script>",
    '" onerror="window.hacked=1',
    "'><img src=x onerror=window.hacked=1>",
    "<!--<script>",
    "]]>&lt;b&gt;{{ 7*7 }}${7*7}",
    "\x00\x1b[31m\u202e\ud800",
    "a|b\\c",
)


@dataclass
class Named(ImageSource):
    """Images in memory with names of files."""

    given: tuple[str, ...]
    labels: Any
    classes: tuple[str, ...]
    name: str = "made"

    def __len__(self) -> int:
        return len(self.given)

    def pixels(self, ids: np.ndarray) -> torch.Tensor:
        noise = torch.randint(256, (len(self), 3, 24, 16), generator=torch.Generator().manual_seed(0))
        return noise[torch.from_numpy(ids)].to(torch.uint8)

    def names(self, ids: np.ndarray) -> list[str]:
        return [self.given[each] for each in ids]


def compared_of(
    names: tuple[str, ...], classes: tuple[str, ...], controls: Sequence[str] = DEFAULT_CONTROLS
) -> tuple[Result, list[Explanations]]:
    """Twelve images, whose label is one of two classes, and their maps."""
    batches: list[Explanations] = []
    source = Named(names, torch.arange(IMAGES) % 2, classes)
    result = xaicmp.compare(
        small_classifier(classes=classes),
        source,
        methods=["grad-cam", "saliency", "saliency:sum"],
        settings=xaicmp.Settings(["pearson", "iou"], controls=controls, curve=True),
        running=xaicmp.Running(keep=batches.append),
    )
    return result, batches


@pytest.fixture(scope="module")
def result() -> tuple[Result, Explanations]:
    names = tuple(f"photo {each}.jpg" for each in range(IMAGES))
    found, batches = compared_of(names, tuple(f"class {each}" for each in range(10)))
    return found, Explanations.join(batches)


@pytest.fixture(scope="module")
def page(result: tuple[Result, Explanations], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    result[0].report(path, result[1])
    return path


@dataclass
class Elements(HTMLParser):
    """The elements of a page with the names of their attributes, its images, and the text of each that has an id."""

    found: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    inside: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))
        self.rows += [value or "" for name, value in attrs if name == "data-row"]
        self.inside = dict(attrs).get("id") or tag

    def handle_data(self, data: str) -> None:
        self.texts[self.inside] = self.texts.get(self.inside, "") + data


def read(path: Path) -> Elements:
    elements = Elements()
    elements.feed(path.read_text(encoding="utf-8"))
    return elements


def document_of(result: Result) -> str:
    """What ``--output`` would write with the study that a page always has."""
    return to_json(result.comparison, [result.study_table("clusters")])


def test_the_page_holds_the_document_and_needs_nothing_else(
    page: Path, result: tuple[Result, Explanations]
) -> None:
    text, elements = page.read_text(encoding="utf-8"), read(page)
    assert gzip.decompress(b64decode(elements.texts["document"])).decode() == document_of(result[0])
    assert not [each for _, names in elements.found for each in names if each == "style" or each[:2] == "on"]
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    for tag in ("script", "style"):
        sums = {
            b64encode(hashlib.sha256(each.encode()).digest()).decode()
            for each in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        }
        assert len(sums) == 1
        assert f"{tag}-src 'sha256-{sums.pop()}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


def test_the_page_says_what_the_tables_say(page: Path, result: tuple[Result, Explanations]) -> None:
    text, comparison = page.read_text(encoding="utf-8"), result[0].comparison
    for pair in comparison.pairs:
        for statistic in comparison.statistics:
            found = comparison.result(statistic, pair)
            name = re.escape(" vs ".join(comparison.titles[each] for each in pair))
            row = re.search(rf">{name}</th><td>{statistic.title(0.2)}</td>(.*?)</tr>", text)
            assert row
            cells = re.findall("<td>(.*?)</td>", row[1])
            assert cells[0] == f"{found.summary.mean:.3f} ± {found.summary.std:.3f}"
            assert cells[1] == f"{found.summary.low:.3f} to {found.summary.high:.3f}"
            assert cells[-1] == found.verdict.short
            assert found.above is not None
            assert f"{found.above.d_z:.2f}" in cells
    assert "0" * 64 in text


@pytest.mark.parametrize("place", ["names", "classes"])
def test_a_name_adds_no_element_and_no_attribute(place: str, page: Path, tmp_path: Path) -> None:
    given = [HOSTILE[each % len(HOSTILE)] + str(each) for each in range(IMAGES)]
    names = given if place == "names" else [f"{each}.jpg" for each in range(IMAGES)]
    classes = given[:10] if place == "classes" else [f"class {each}" for each in range(10)]
    found, batches = compared_of(tuple(names), tuple(classes))
    found.report(tmp_path / "hostile.html", Explanations.join(batches))
    assert read(tmp_path / "hostile.html").found == read(page).found
    text = (tmp_path / "hostile.html").read_text(encoding="utf-8")
    assert not [each for each in text if not each.isprintable() and each != "\n"]


@given(st.text(st.sampled_from("<>&\"'/a=\x1b\n{}% "), max_size=9))
def test_text_in_a_table_is_text(cell: str) -> None:
    table = Table((cell, "n"), [[cell, 1.5], ["x", None]], title=cell, note=cell, sections={1: cell})
    elements = Elements()
    elements.feed(to_html(table))
    tags = [tag for tag, _ in elements.found]
    caption, note = ["caption"] * bool(cell), ["p"] * bool(cell)
    first, second = ["tr", "th", "td"], ["tbody", "tr", "th", "tr", "th", "td"]
    assert tags == ["table", *caption, "thead", "tr", "th", "th", "tbody", *first, *second, *note]


# ---------------------------------------------------------------- maps as they are shipped


def batch_of(maps: np.ndarray) -> Explanations:
    """Maps ``(M, N, H, W)`` of black images of their size."""
    count, height, width = maps.shape[1:]
    none = np.zeros(count, dtype=np.int64)
    chosen = Predictions(none, none, none, none, none)
    pixels = torch.zeros(count, 3, height, width, dtype=torch.uint8)
    return Explanations(chosen, pixels, tuple(map(str, range(len(maps)))), torch.from_numpy(maps))


SMALL = arrays.arrays(np.float32, (2, 3, 4, 5), elements=st.sampled_from([-1, 0, 0.5, 1, 2, np.nan]))


@given(SMALL, st.sampled_from([0.05, 0.2, 0.29, 0.5]))
def test_the_shipped_places_are_the_top_pixels(maps: np.ndarray, top: float) -> None:
    gallery = Gallery()
    gallery.add(batch_of(maps))
    packed = gallery.packed(np.array([2, 0]), 10**6)
    assert packed.size == (4, 5)
    low, high, levels = np.split(np.frombuffer(gzip.decompress(packed.data), "u1").astype(int), [80, 160])
    places, levels = (low + 256 * high).reshape(2, 2, 20), levels.reshape(2, 2, LEVELS)
    assert packed.signed == [bool((np.nan_to_num(each[[0, 2]]) < 0).any()) for each in maps]
    for shown, row in enumerate((2, 0)):
        for method in range(2):
            flat = torch.from_numpy(maps[method, row])[None]
            found = top_pixels(flat, top)
            if found.undefined.item():
                assert (places[shown, method] == UNDEFINED).all()
            else:
                inside = places[shown, method] < int(found.values[0].sum())
                assert (np.diff(levels[shown, method]) <= 0).all()
                np.testing.assert_array_equal(inside, found.values[0][0].numpy())


@pytest.mark.parametrize(("methods", "side"), [(3, 224), (36, 224), (3, 32)])
def test_a_page_of_100_images_is_below_5_mb(methods: int, side: int, tmp_path: Path, result: Any) -> None:
    """Noise is the worst there is, for images and for maps."""
    comparison = result[0].comparison
    rows = np.arange(100) % IMAGES
    comparison = replace(comparison.rows(rows), source=replace(comparison.source, names=()))
    gallery, rng = Gallery(), np.random.default_rng(0)
    maps = rng.random((methods, 20, side, side), dtype=np.float32)
    batch = replace(
        batch_of(maps), pixels=torch.from_numpy(rng.integers(256, size=(20, 3, side, side), dtype=np.uint8))
    )
    for _ in range(5):
        gallery.add(batch)
    write_report(tmp_path / "report.html", comparison, gallery)
    size = (tmp_path / "report.html").stat().st_size
    assert size < 5_000_000
    assert size > 4_000_000 or side == 32
    if side == 32:
        assert gallery.packed(np.arange(100), 3_000_000).size == (32, 32)


@pytest.mark.parametrize("every", [True, False])
def test_a_document_that_is_too_large_leaves_controls_out_and_the_page_says_so(
    every: bool, result: tuple[Result, Explanations], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, maps = result
    whole = json.loads(document_of(found))
    monkeypatch.setattr("xaicmp.views.report.gallery.MOST", 5)
    monkeypatch.setattr("xaicmp.views.report.page.DOCUMENT", 12_000 if every else 0)
    found.report(tmp_path / "report.html", maps)
    elements = read(tmp_path / "report.html")
    text = gzip.decompress(b64decode(elements.texts["document"])).decode()
    short, rows = json.loads(text), [int(each) for each in elements.rows]
    assert len(rows) == 5
    shown = range(IMAGES) if every else rows
    assert f"the agreement on {len(shown)} images" in elements.texts["kept"]
    assert short == {
        key: [
            {
                name: value
                for name, value in image.items()
                if name in IMAGE or (name in ("pearson", "iou") and row in shown)
            }
            for row, image in enumerate(each)
        ]
        if key == "images"
        else each
        for key, each in whole.items()
        if key != "scores"
    }
    (tmp_path / "short.json").write_text(text)
    with pytest.raises(XaicmpError, match="of an older xaicmp, or of a page"):
        xaicmp.load(tmp_path / "short.json")


def test_a_figure_in_the_page_has_no_more_digits_than_a_screen_shows(page: Path) -> None:
    svg = "".join(re.findall("<svg.*?</svg>", page.read_text(encoding="utf-8"), re.DOTALL))
    assert not re.search(r' (?:d|x|y)="[^"]*\.\d{3}', svg)
    assert "font-family" not in svg
    assert "rotate(-0 " not in svg


def test_of_many_images_some_are_shown_evenly_from_the_least_agreement_to_the_most() -> None:
    gallery = Gallery()
    gallery.add(batch_of(np.random.default_rng(0).random((2, 1, 4, 4), dtype=np.float32)))
    agreement = np.random.default_rng(1).permutation(999.0 * np.arange(5 * MOST))
    rows = gallery.rows(agreement)
    assert (len(rows), len(set(rows))) == (MOST, MOST)
    assert (np.diff(rows) > 0).all()
    shown = np.sort(agreement[rows])
    assert (shown[0], shown[-1]) == (0, agreement.max())
    assert np.diff(shown).max() <= 1.3 * 999 * 5
    np.testing.assert_array_equal(gallery.rows(agreement[:10]), np.arange(10))


# ---------------------------------------------------------------- from Python


def test_images_are_explained_again_where_their_maps_were_not_kept(
    result: tuple[Result, Explanations], page: Path, tmp_path: Path
) -> None:
    result[0].report(tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page.read_text()


def test_a_page_shows_the_studies_that_it_is_asked_for(
    result: tuple[Result, Explanations], page: Path, tmp_path: Path
) -> None:
    found, maps = result
    found.report(tmp_path / "report.html", maps, studies=["faithfulness", "compare_pairs"])
    text, plain = (tmp_path / "report.html").read_text(), page.read_text()
    for name in ("faithfulness", "compare_pairs", "clusters"):
        table = found.study_table(name, maps.maps)
        assert f"<h3>{table.title}</h3>" in text
        assert (f"<h3>{table.title}</h3>" in plain) == (name == "clusters")
        assert f">{table.rows[0][0].strip()}</th>" in text
    assert 'id="agreement-faithfulness-caption"' in text
    with pytest.raises(UsageError, match="study 'x': choose from clusters, compare_pairs, consensus"):
        found.report(tmp_path / "x.html", maps, studies=["x"])


def test_a_result_from_a_file_has_a_page_without_images(
    result: tuple[Result, Explanations], tmp_path: Path
) -> None:
    result[0].save(tmp_path / "result.json")
    xaicmp.load(tmp_path / "result.json").report(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "made from a file without images" in text
    assert "<svg" in text
    assert "<img" not in text


def test_a_page_that_cannot_be_written_is_one_error(
    result: tuple[Result, Explanations], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"must end in \.html"):
        result[0].report(tmp_path / "report.pdf")
    with pytest.raises(XaicmpError, match="does not exist"):
        result[0].report(tmp_path / "none" / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file size are POSIX's")
def test_no_room_for_the_page_is_one_error_and_the_old_one_stays(
    result: tuple[Result, Explanations], tmp_path: Path
) -> None:
    import resource

    path, before = tmp_path / "report.html", resource.getrlimit(resource.RLIMIT_FSIZE)
    path.write_text("old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(XaicmpError, match=r"cannot write .*report\.html: File too large"):
            result[0].report(path, result[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]


# ---------------------------------------------------------------- in a browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
browser_only = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium, as apt-get install chromium gives"
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra 'test'")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any, page: Path) -> Iterator[Any]:
    """The page, opened; in the end it has said nothing and asked for nothing."""
    yield from open_page(chromium, page)


def open_page(chromium: Any, path: Path, **options: Any) -> Iterator[Any]:
    context = chromium.new_context(**options)
    view, said = context.new_page(), []
    view.on("console", lambda message: said.append(message.text))
    view.on("pageerror", lambda error: said.append(str(error)))
    view.on("dialog", lambda dialog: said.append(dialog.message))
    asked: list[str] = []
    view.on("request", lambda request: asked.append(request.url))
    view.goto(path.as_uri())
    view.wait_for_selector("#controls", state="visible")
    yield view
    context.close()
    assert said == []
    assert [each for each in asked if not each.startswith(("data:", "blob:"))] == [path.as_uri()]


def texts(view: Any, selector: str) -> list[str]:
    return [each.strip() for each in view.locator(selector).all_inner_texts()]


@browser_only
def test_a_heading_sorts_its_table_up_and_down(opened: Any, result: tuple[Result, Explanations]) -> None:
    comparison = result[0].comparison
    means = sorted(
        comparison.summary(each.name, pair).mean
        for each in comparison.statistics
        for pair in comparison.pairs
    )
    heading = opened.locator("#pairs thead th", has_text="Mean ± std")
    for expected, sort in ((means, "ascending"), (means[::-1], "descending")):
        heading.locator("button").press("Enter")
        assert heading.get_attribute("aria-sort") == sort
        shown = [float(each.split()[0]) for each in texts(opened, "#pairs tbody td:nth-child(3)")]
        np.testing.assert_allclose(shown, expected, atol=6e-4)
    opened.locator("#pairs thead th button").first.click()
    names = texts(opened, "#pairs tbody th")
    assert names == sorted(names)


@browser_only
def test_images_are_sorted_and_filtered(opened: Any, result: tuple[Result, Explanations]) -> None:
    comparison = result[0].comparison
    chosen = comparison.predictions

    def rows() -> list[int]:
        return [int(each.get_attribute("data-row")) for each in opened.locator("#gallery li:visible").all()]

    assert rows() == list(range(IMAGES))
    opened.select_option("#sort", "confidence")
    assert rows() == np.argsort(chosen.confidence, kind="stable").tolist()
    opened.select_option("#direction", "-1")
    pair = ("grad-cam", "saliency:sum")
    for name in ("pearson", "iou"):
        opened.select_option("#sort", "|".join(pair))
        opened.select_option("#statistic", name)
        values = comparison.scores.values[name][pair]
        assert rows() == np.argsort(-values, kind="stable").tolist()
        assert texts(opened, "#gallery .value") == [f"{each:.3f}" for each in -np.sort(-values)]
    opened.select_option("#sort", "")
    opened.select_option("#direction", "1")
    for right in ("right", "wrong"):
        opened.select_option("#right", right)
        assert rows() == np.flatnonzero(chosen.wrong == (right == "wrong")).tolist()
        assert opened.inner_text("#count") == f"{len(rows())} of {IMAGES} shown"
    opened.select_option("#right", "")
    which = int(chosen.predicted[0])
    opened.select_option("#class", f"=class {which}")
    assert rows() == np.flatnonzero(chosen.predicted == which).tolist()


@browser_only
def test_the_sliders_move_outlines_maps_and_the_iou(opened: Any, result: tuple[Result, Explanations]) -> None:
    (_, maps), image = result, 3
    opened.locator("#gallery li").nth(image).locator("button").press("Enter")
    assert opened.inner_text("#name") == "photo 3.jpg"
    pictures = [opened.locator("#panels").screenshot()]
    for top in (20, 5, 80):
        opened.locator("#top").fill(str(top))
        flat = maps.maps[:, image].double()
        sets = top_pixels(flat, top / 100).values[0].numpy()
        expected = [
            (sets[a] & sets[b]).sum() / (sets[a] | sets[b]).sum() for a, b in ((0, 1), (0, 2), (1, 2))
        ]
        assert texts(opened, "#agreement .live") == [f"{each:.3f}" for each in expected]
    for strength in (0, 100):
        opened.locator("#strength").fill(str(strength))
        pictures.append(opened.locator("#panels").screenshot())
    assert len(set(pictures)) == 3
    measured = result[0].comparison.scores.values["pearson"]
    column = texts(opened, "#agreement tbody td:nth-child(3)")
    assert column == [f"{measured[pair][image]:.3f}" for pair in result[0].pairs]


@browser_only
def test_the_large_view_is_walked_through_and_left_by_keyboard(opened: Any) -> None:
    opened.locator("#gallery li button").nth(0).focus()
    opened.keyboard.press("Enter")
    for key, name in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        opened.keyboard.press(key)
        assert opened.inner_text("#name") == f"photo {name}.jpg"
    opened.locator("#top").focus()
    opened.keyboard.press("ArrowRight")
    assert (opened.inner_text("#name"), opened.inner_text("#top-value")) == ("photo 1.jpg", "21%")
    opened.keyboard.press("Escape")
    assert not opened.locator("#large").is_visible()
    opened.wait_for_function("document.activeElement.closest('li[data-row=\"1\"]')")


@browser_only
def test_the_document_is_downloaded_as_it_would_be_written(opened: Any, result: Any) -> None:
    with opened.expect_download() as download:
        opened.click("#download")
    text = Path(download.value.path()).read_text()
    assert text == document_of(result[0])


LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
}


@browser_only
@pytest.mark.parametrize("look", LOOKS)
def test_everyone_can_use_it(look: str, chromium: Any, page: Path) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs axe, of the extra 'test'"
    )
    for view in open_page(chromium, page, **LOOKS[look]):
        for large in (False, True):
            if large:
                view.locator("#gallery li button").nth(0).press("Enter")
            found = axe.Axe().run(view).response["violations"]
            serious = [each["id"] for each in found if each["impact"] in ("serious", "critical")]
            assert serious == []
            assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")


@browser_only
@pytest.mark.parametrize("width", [1280, 390])
def test_the_verdict_stays_in_view_whatever_controls_there_are(
    width: int, chromium: Any, tmp_path: Path
) -> None:
    names = tuple("abcdefghijkl")
    found, batches = compared_of(names, names[:10], [*DEFAULT_CONTROLS, "other-class"])
    found.report(tmp_path / "wide.html", Explanations.join(batches))
    for view in open_page(chromium, tmp_path / "wide.html", viewport={"width": width, "height": 844}):
        table = view.locator("#pairs .wide")
        table.evaluate("each => each.scrollIntoView({ block: 'center' })")
        assert table.evaluate("each => each.scrollWidth > each.clientWidth")
        for start in (0, 1e4):
            table.evaluate("(each, start) => each.scrollTo(start, 0)", start)
            for cell in ("thead th", "tbody td"):
                assert view.locator(f"#pairs {cell}").last.evaluate(
                    """each => {
                        const { x, y, width, height, right } = each.getBoundingClientRect();
                        const shown = document.elementFromPoint(x + width / 2, y + height / 2);
                        return x >= 0 && right <= innerWidth && each.contains(shown);
                    }"""
                )


@browser_only
def test_what_is_printed_has_no_controls(opened: Any) -> None:
    opened.emulate_media(media="print")
    assert not opened.locator("#controls").is_visible()
    assert opened.locator("#gallery img").nth(0).is_visible()
    assert opened.pdf().startswith(b"%PDF")


@browser_only
def test_hostile_names_are_shown_and_run_nothing(chromium: Any, tmp_path: Path) -> None:
    names = tuple(HOSTILE[each % len(HOSTILE)] + str(each) for each in range(IMAGES))
    found, batches = compared_of(names, names[:10])
    found.report(tmp_path / "hostile.html", Explanations.join(batches))
    for view in open_page(chromium, tmp_path / "hostile.html"):
        assert view.evaluate("window.hacked") is None
        view.locator("#gallery li button").nth(0).click()
        assert view.inner_text("#name") == names[0]
        assert names[int(found.comparison.predictions.predicted[0])] in view.inner_text("#what")
        assert view.evaluate("window.hacked") is None
