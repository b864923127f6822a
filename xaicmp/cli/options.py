"""The options that subcommands share, each written once."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from xaicmp.cli.completion import method_names, offered
from xaicmp.cli.config import ORIGIN, SHOW, config_option, key_of, to_toml
from xaicmp.core import choices
from xaicmp.errors import UsageError
from xaicmp.views.figures import kind_names
from xaicmp.views.table import FORMATS

NOISY = ("smoothgrad", "vargrad", "smoothgrad-ig", "gradient-shap", "deeplift-shap")
"""The methods that take --noise."""


def formats() -> list[str]:
    """The values of --format: the formats of tables, and JSON."""
    first, *others = FORMATS
    return [first, "json", *others]


def option(
    panel: str,
    help: str,
    metavar: str | None = None,
    *names: str,
    default: Any = None,
    goes_with: str = "",
    excludes: tuple[str, ...] = (),
    **limits: Any,
) -> Any:
    """A field of a dataclass of options: an option of the command line under the heading ``panel`` of ``--help``.

    Args:
        panel, help, metavar: as they are shown.
        names: how it is written, where not as the field.
        default: its value when it is not given.
        goes_with: the option without which it would be ignored.
        excludes: the options that it cannot be given together with.
        limits: of its values, as Typer takes them.
    """
    info = typer.Option(
        *names, help=help, metavar=metavar, rich_help_panel=panel, show_envvar=False, **limits
    )
    return field(default=default, metadata={"option": info, "goes_with": goes_with, "excludes": excludes})


def flag(name: str) -> str:
    """The option of a field, as it is typed."""
    return f"--{key_of(name)}"


def given(options: Any) -> list[str]:
    """The names of the options whose value is not the default."""
    return [each.name for each in fields(options) if getattr(options, each.name) != each.default]


def check_rules(options: Any) -> None:
    """Raise UsageError if an option lacks the one that it goes with, or meets one that it excludes."""
    names = given(options)
    for each in (each for each in fields(options) if each.name in names):
        other = each.metadata["goes_with"]
        if other and other not in names:
            raise UsageError(f"{flag(each.name)} goes with {flag(other)}; give both, or neither")
        if other := next((other for other in each.metadata["excludes"] if other in names), None):
            raise UsageError(f"{flag(each.name)} and {flag(other)} exclude each other; give one of them")


def one_of(words: Callable[[], Iterable[str]] | Any) -> Callable[[str], str]:
    """A parser of values that are one of ``words``, a Literal or a function that makes a list."""

    def check(word: str) -> str:
        every = get_args(words) or words()
        if word not in every:
            raise typer.BadParameter(f"{word!r} is not one of {', '.join(every)}")
        return word

    return check


# An option under each heading of --help.
model_option = partial(option, "Model")
image_option = partial(option, "Images")
method_option = partial(option, "Methods")
comparison_option = partial(option, "Comparison")
study_option = partial(option, "Studies")
running_option = partial(option, "Running")
output_option = partial(option, "Output")

# Options that several dataclasses have.
IDS = partial(
    image_option,
    "These images, by index or file name: --ids 3 7 12, or 3,7,12, or 0-99, or cat.jpg.",
    "ID...",
)
ONLY = partial(
    image_option,
    "Which images --n counts: those that are classified correctly, wrongly, or all. Default: correct.",
    excludes=("ids",),
)
DEVICE = partial(running_option, "auto, cpu, cuda (or cuda:1, ...) or mps.", "NAME", default="auto")
SEED = partial(running_option, "Seed of all random draws.", "N", min=0, max=2**63 - 1, default=0)
QUIET = partial(
    running_option,
    "Print no progress and no remarks on stderr.",
    None,
    "--quiet/--no-quiet",
    "-q",
    default=False,
)
RESUME = partial(
    running_option,
    "Resume an interrupted run from what it has kept beside --output.",
    default=False,
    goes_with="output",
)
KIND = partial(
    output_option,
    f"What the picture shows: {', '.join(kind_names())}. See docs/figures.md.",
    "NAME",
    autocompletion=offered(kind_names),
)
FORMAT = partial(
    output_option,
    "Format of what is printed on stdout.",
    f"[{'|'.join(formats())}]",
    parser=one_of(formats),
    autocompletion=offered(formats),
    default="table",
)


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """The options of every command that compares explanations."""

    model: str | None = model_option(
        "Network to explain: torchvision:resnet50, timm:NAME, or your own code as module:function?width=2. "
        "Default: the network that --checkpoint names.",
        "NAME",
    )
    checkpoint: Path | None = model_option(
        "Weights of the network: .pt, .pth or .safetensors. Default without --model: checkpoints/resnet18.pt if you have "
        "trained one, else the checkpoint that ships.",
        "FILE",
    )
    weights: str | None = model_option(
        "Trained weights of the --model: a name, a file, or none. Default: the best there are.",
        "NAME",
        goes_with="model",
        excludes=("checkpoint",),
    )
    classes: Path | None = model_option(
        "Names of the network's classes: one per line, or JSON. Default: those that come with it.", "FILE"
    )
    input_size: list[int] | None = model_option(
        "Height and width of the network's images, or one number for both. Default: its own.", "N...", min=1
    )
    mean: list[float] | None = model_option(
        "Mean that images are normalised by, for pixels from 0 to 1.", "NUMBER..."
    )
    std: list[float] | None = model_option(
        "Standard deviation that images are normalised by, for pixels from 0 to 1.", "NUMBER..."
    )
    crop_pct: float | None = model_option(
        "Share of a photograph's shorter side that the network sees, from the middle.",
        "SHARE",
        goes_with="images",
    )
    interpolation: choices.Interpolation | None = model_option(
        "How photographs are resized.", goes_with="images"
    )
    images: list[str] | None = image_option(
        "Photographs: files, folders, patterns, a .txt list of paths, or - to read a list from stdin. Folders in a "
        "folder are classes. Default: CIFAR-10.",
        "PATH...",
    )
    labels: Path | None = image_option(
        "Labels of the photographs: a .csv file of path and label.", "FILE", goes_with="images"
    )
    label_map: Path | None = image_option(
        "The network's class for each label: a .csv or .json file.", "FILE", goes_with="images"
    )
    strict: bool = image_option(
        "Stop at a photograph that cannot be read, instead of leaving it out.",
        default=False,
        goes_with="images",
    )
    data: Path | None = image_option(
        "Folder that holds CIFAR-10, or a new folder to download it into; or the folder that the network was trained on, "
        "for the images that it was tested on. Default: the 1,000 images that ship; for more, $XAICMP_DATA or the cache.",
        "FOLDER",
        excludes=("images",),
    )
    n: int | None = image_option("Take the first N images that --only admits.", "N", min=1, excludes=("ids",))
    ids: list[str] | None = IDS()
    only: choices.Only | None = ONLY()
    target: str = method_option(
        "The class to explain: predicted, label, a class by its name or index, or your own module:function, which makes a score "
        "of the network's output.",
        "CLASS",
        default="predicted",
    )
    methods: list[str] | None = method_option(
        "What to compare: names (grad-cam), groups (published, gradient, cam, attention, perturbation, model-free, all), "
        "a name with a reduction or options (saliency:sum, smoothgrad:samples=9), "
        "classes of other libraries (captum:Saliency, pytorch_grad_cam:GradCAM), "
        "your own (package.module:function). Default: published. See explain --list-methods.",
        "NAME...",
        autocompletion=offered(method_names),
    )
    reduce: choices.Reduction | None = method_option(
        "How channels and signs become one value per pixel. Default: each method's own."
    )
    layer: str | None = method_option(
        "Layer that the CAMs look at. Default: the last whose maps have more than one pixel.", "NAME"
    )
    ig_steps: int = method_option("Steps of Integrated Gradients.", "N", min=2, default=32)
    ig_rule: choices.Rule = method_option("Quadrature of Integrated Gradients.", default="right")
    ig_baseline: choices.Baseline = method_option("Baseline of Integrated Gradients.", default="zero")
    ig_tolerance: float = method_option(
        "Double the steps of Integrated Gradients until the convergence delta is below this share of the score's change.",
        "SHARE",
        min=0,
        default=0.0,
    )
    samples: int | None = method_option(
        "How many samples a method draws, if it draws any. Default: each method's own.", "N", min=1
    )
    noise: float | None = method_option(
        f"Noise that {', '.join(NOISY)} add, as a share of the image's range.", "SHARE", min=0
    )
    statistics: list[str] | None = comparison_option(
        f"What to measure: {', '.join(get_args(choices.Statistic))}. Default: pearson iou.",
        "NAME...",
        autocompletion=offered(choices.Statistic),
    )
    top: list[float] | None = comparison_option(
        "Shares of top pixels that IoU, RBO and similar statistics compare. Default: 0.2.", "SHARE..."
    )
    controls: list[str] | None = comparison_option(
        f"What agreement is compared with: {', '.join(get_args(choices.Control))}. Default: other-image shift.",
        "NAME...",
        autocompletion=offered(choices.Control),
    )
    ci: float = comparison_option("Level of the confidence intervals.", "SHARE", default=0.95)
    margin: float | None = comparison_option(
        "How far a correlation may be from the correlation with another image's map and still count as about equal; half "
        "of it for statistics from 0 to 1. Default: 0.05, and with --from FILE.json that of the file.",
        "SIZE",
    )
    batch_size: int | None = running_option(
        "The most images in one pass through the network. Default: 64, on a GPU 512; fewer if memory runs out.",
        "N",
        min=1,
    )
    device: str = DEVICE()
    precision: choices.Precision = running_option(
        "Type of numbers that the network computes in.", default="float32"
    )
    fast: bool = running_option(
        "Be quick and approximate: 8 steps of Integrated Gradients (24 on images above 64 x 64), in bf16 where the hardware "
        "has it.",
        default=False,
        excludes=("ig_steps", "ig_rule", "precision"),
    )
    seed: int = SEED()
    quiet: bool = QUIET()


@dataclass(frozen=True, kw_only=True)
class Measuring(Comparing):
    """The options of ``metrics``."""

    from_: Path | None = study_option(
        "Compare the maps in this .npz file, or show the comparison in this .json file again.",
        "FILE",
        "--from",
    )
    compare_pairs: bool = study_option("Also test whether the pairs differ.", default=False)
    by: list[str] | None = study_option(
        f"Also show agreement by {', '.join(get_args(choices.By))}.",
        "NAME...",
        parser=one_of(choices.By),
        autocompletion=offered(choices.By),
    )
    rerun: bool = study_option("Also compare each method with itself under another seed.", default=False)
    against: Path | None = study_option("Also compare each method with itself on this checkpoint.", "PATH")
    checkpoints: list[Path] | None = study_option(
        "Also compare on all of these checkpoints: means over checkpoints and images, and how much varies with each. "
        "Without --checkpoint, the first takes its place.",
        "FILE...",
    )
    consensus: bool = study_option(
        "Also show which methods belong together, and how far each is from the consensus of all.",
        default=False,
    )
    randomise: choices.Randomise | None = study_option(
        "Also compare each method's maps with those of a model whose weights are re-initialised."
    )
    draws: int | None = study_option(
        "How many re-initialised models --randomise makes at each stage. Default: 5.",
        "N",
        min=1,
        goes_with="randomise",
    )
    faithfulness: bool = study_option(
        "Also measure whether the maps point at what the model uses.", default=False
    )
    properties: bool = study_option(
        "Also show what each method's maps are like: how concentrated, how stable under noise, how specific to the class.",
        default=False,
    )
    masks: Path | None = study_option(
        "Also measure whether the maps point at the object. Give a folder of masks, called like the images, or a .csv "
        "file of boxes (path,x0,y0,x1,y1).",
        "PATH",
    )
    cost: bool = study_option("Also show what each method costs.", default=False)
    plot: Path | None = output_option("Draw a picture here, see --kind: .png, .pdf or .svg.", "FILE")
    kind: str | None = KIND(goes_with="plot")
    report: Path | None = output_option(
        "Write one .html page that shows everything, with the images, in any browser, offline. Takes the control "
        "other-class, as --details does.",
        "FILE",
    )
    fail_under: list[str] | None = output_option(
        "End with status 3 if a mean is below its bound: pearson=0.3, or for one pair lrp,cam:pearson=0.3. With --against, "
        "pearson=0.3 is for each method with itself.",
        "BOUND...",
        autocompletion=offered(choices.Statistic, end="="),
    )
    fail_on: choices.FailOn = output_option(
        "What --fail-under compares with the bound: the mean, or the lower end of its interval.",
        default="mean",
        goes_with="fail_under",
    )
    format: str = FORMAT()
    output: Path | None = output_option(
        "Also write the result here: .json, .csv (the pairs alone) or .md.", "FILE"
    )
    resume: bool = RESUME()
    details: bool = output_option(
        "Show every control, other classes too (each image is explained three times), and chance; in CSV, one row "
        "per image, pair and statistic.",
        default=False,
    )
    verbose: bool = output_option(
        "Also show how the checkpoint was trained.", None, "--verbose/--no-verbose", "-v", default=False
    )

    @property
    def of_model(self) -> list[str]:
        """The studies that are asked for and that need the model."""
        names = "rerun against checkpoints consensus randomise faithfulness properties masks cost"
        return [name for name in names.split() if getattr(self, name)]

    @property
    def studies(self) -> bool:
        """Whether any study is asked for."""
        return bool(self.compare_pairs or self.by or self.of_model)


def with_options(options: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn a function of one dataclass into a command, whose options are the fields of the dataclass."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        types = get_type_hints(options)
        annotations: dict[str, Any] = {
            each.name: Annotated[types[each.name], each.metadata["option"]] for each in fields(options)
        }
        annotations["config"] = Annotated[Path | None, config_option(types)]
        annotations["show_config"] = Annotated[bool, SHOW]
        annotations["context"] = typer.Context
        defaults = {each.name: each.default for each in fields(options)}
        defaults |= {"config": None, "show_config": False}

        @functools.wraps(function)
        def command(context: typer.Context, config: Path | None, show_config: bool, **values: Any) -> None:
            given = to_toml(values)
            if show_config:
                sys.stdout.write(given)
                return
            chosen = options(**values)
            check_rules(chosen)
            ORIGIN.set({"command": context.find_root().obj, "config": given})
            function(chosen)

        empty, only_named = inspect.Parameter.empty, inspect.Parameter.KEYWORD_ONLY
        parameters = [
            inspect.Parameter(name, only_named, default=defaults.get(name, empty), annotation=annotation)
            for name, annotation in annotations.items()
        ]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = annotations
        return command

    return decorate
