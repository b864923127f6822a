"""The house holds: arrows run one way, core knows no option, and something new touches one place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from small import small_classifier

import xaicmp
from xaicmp.cli import run
from xaicmp.core.attribution import METHODS, method
from xaicmp.core.images.source import ImageSource
from xaicmp.core.images.sources import IMAGES, image_source
from xaicmp.core.models.classifier import Classifier
from xaicmp.core.models.sources import MODELS, model_source
from xaicmp.views.figures.registry import KINDS, Drawing, figure_kind
from xaicmp.views.table import FORMATS, SUFFIXES, Table, table_format

PACKAGE = Path(xaicmp.__file__).parent
ORDER = [
    {"errors"},
    {"core.arguments", "core.choices", "core.machine"},
    {"core.images", "core.models"},
    {"core.attribution", "core.agreement"},
    {"core.results"},
    {"core.run", "core.training"},
    {"core.studies"},
    {"views"},
    {"api", "result"},
    {"cli"},
]
"""An import may run downward, or stay on its floor."""
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[tuple[str, ast.ImportFrom]]:
    """The modules of the package that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("xaicmp"):
            for alias in node.names:
                inner = PACKAGE.parent / f"{node.module}.{alias.name}".replace(".", "/")
                whole = inner.is_dir() or inner.with_suffix(".py").exists()
                yield (f"{node.module}.{alias.name}" if whole else node.module), node


def floor_of(module: str) -> int | None:
    name = module.removeprefix("xaicmp.")
    for number, rooms in enumerate(ORDER):
        if any(name == room or name.startswith(f"{room}.") for room in rooms):
            return number
    return None


def test_every_module_has_a_floor() -> None:
    outside = {"xaicmp", "xaicmp.__main__", "xaicmp.core"}
    assert {module_of(path) for path in FILES if floor_of(module_of(path)) is None} == outside


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_arrows_run_downward(path: Path) -> None:
    own = floor_of(module_of(path))
    for module, node in imports(path):
        if own is not None and module != "xaicmp":
            other = floor_of(module)
            assert other is not None and other <= own, f"line {node.lineno} imports {module}"


def test_there_is_no_circle() -> None:
    arrows = {module_of(path): {module for module, _ in imports(path)} for path in FILES}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"circle: {' -> '.join((*way, module))}"
        if module not in done:
            for other in arrows.get(module, ()):
                visit(other, (*way, module))
            done.add(module)

    for module in arrows:
        visit(module, ())


@pytest.mark.parametrize(
    "path", [each for each in FILES if "core" in each.relative_to(PACKAGE).parts], ids=module_of
)
def test_core_names_no_option(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            assert not re.search(r"(?<![\w-])--[a-z]", node.value), f"line {node.lineno}: {node.value!r}"


@pytest.mark.parametrize(
    "path", [each for each in FILES if "views" in each.relative_to(PACKAGE).parts], ids=module_of
)
def test_views_run_no_test_and_no_bootstrap(path: Path) -> None:
    drawing = {"summarise", "summarise_share", "summarise_ratio", "interval", "student", "by_share"}
    drawing |= {"paired_tests", "flip_signs", "compare_pairs", "compare_methods", "told_apart", "letters"}
    drawing |= {"holm", "lowest_p"}
    for module, node in imports(path):
        if module.startswith("xaicmp.core"):
            assert not drawing & {alias.name for alias in node.names}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_name_of_another_files_own_is_imported(path: Path) -> None:
    for _, node in imports(path):
        assert not [alias.name for alias in node.names if alias.name.startswith("_")]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_function_is_longer_than_60_lines(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name}: {length} lines"


@pytest.mark.parametrize(
    "path",
    [
        each
        for each in FILES
        if each.parent.name in ("images", "machine", "models", "run", "studies", "training")
    ],
    ids=module_of,
)
def test_no_function_has_more_than_7_parameters(path: Path) -> None:
    """Constructors excepted, whose parameters a caller names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            named = [each.arg for each in every if each.arg not in ("self", "cls")]
            assert len(named) <= 7, f"{node.name}: {', '.join(named)}"


# One place each


def test_a_method_is_one_function() -> None:
    @method("toy", title="Toy", family="test", reduction="sum", cost="0", paper="")
    def toy(model: torch.nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=1)

    try:
        result = xaicmp.compare(small_classifier(), torch.randn(4, 3, 32, 32), methods=["toy", "saliency"])
        assert result["Toy", "Saliency"].pair == ("toy", "saliency")
        assert "Toy vs Saliency" in result.table()
    finally:
        del METHODS["toy"]


def test_a_table_format_is_one_function(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    @table_format("toy", ".toy")
    def toy(table: Table) -> str:
        return "/".join(table.columns)

    try:
        assert FORMATS["toy"](Table(("a", "b"), [])) == "a/b"
        result = xaicmp.compare(small_classifier(), torch.randn(4, 3, 32, 32), methods=["edge", "saliency"])
        assert result.table("toy").startswith("Pair/Pearson/95% interval/Other image/Verdict/IoU@20%/")
        assert run(["explain", "--list-methods", "--format", "toy"]) == 0
        assert capsys.readouterr().out.startswith("name/family/")
        result.save(tmp_path / "x.toy")
        assert (tmp_path / "x.toy").read_text().startswith("Pair/")
    finally:
        del FORMATS["toy"], SUFFIXES[".toy"]


def test_a_figure_kind_is_one_function() -> None:
    @figure_kind("toy", "A toy")
    def toy(drawing: Drawing) -> Figure:
        return Figure(figsize=(len(drawing.comparison.pairs), 1))

    try:
        result = xaicmp.compare(small_classifier(), torch.randn(4, 3, 32, 32), methods=["edge", "saliency"])
        assert result.figure("toy").get_size_inches()[0] == 1
    finally:
        del KINDS["toy"]


def test_a_source_of_models_is_one_function() -> None:
    @model_source("toy")
    def toy(name: str, weights: str | None, classes: int | None) -> Classifier:
        return small_classifier(name=name)

    try:
        assert xaicmp.load_model("toy:mine").name == "mine"
    finally:
        del MODELS["toy"]


def test_a_source_of_images_is_one_class_or_function() -> None:
    class Toy(ImageSource):
        name = "toys"

        def __len__(self) -> int:
            return 5

        def pixels(self, ids: np.ndarray) -> torch.Tensor:
            shades = [torch.arange(3072) * (1 + each) % 251 for each in ids.tolist()]
            return torch.stack(shades).view(-1, 3, 32, 32).to(torch.uint8)

    @image_source("toy")
    def toy(name: str) -> ImageSource:
        return Toy()

    try:
        everything = xaicmp.Selection(n=5, only="all")
        result = xaicmp.compare(small_classifier(), "toy:", methods=["saliency", "edge"], select=everything)
        assert len(result) == 5
        assert "toys" in result.table()
    finally:
        del IMAGES["toy"]


# What stays out

FORBIDDEN = {
    "eval",
    "exec",
    "pickle.load",
    "pickle.loads",
    "yaml.load",
    "os.system",
    "os.popen",
    "marshal.loads",
}


def forbidden(code: str) -> list[str]:
    """What in a file would run what it reads: unpickling, evaluating, shells."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [
                name
                for name in names
                if name.split(".")[0] in ("pickle", "dill", "shelve", "marshal", "yaml")
            ]
        if isinstance(node, ast.Call):
            name, options = (
                ast.unparse(node.func),
                {each.arg: ast.unparse(each.value) for each in node.keywords},
            )
            found += [name] if name in FORBIDDEN else []
            found += ["shell=True"] if options.get("shell", "False") != "False" else []
            found += (
                ["weights_only"] if name == "torch.load" and options.get("weights_only") != "True" else []
            )
            found += ["allow_pickle"] if options.get("allow_pickle", "False") != "False" else []
    return found


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_that_is_read_is_run(path: Path) -> None:
    assert forbidden(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import load",
        "import yaml",
        "eval('1')",
        "exec(text)",
        "subprocess.run('ls', shell=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "os.system('ls')",
    ],
)
def test_the_rule_sees_what_it_forbids(code: str) -> None:
    assert forbidden(code)
