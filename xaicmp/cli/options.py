"""The options that subcommands share, each written once."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from xaicmp.cli.completion import method_names, offered
from xaicmp.cli.config import ORIGIN, SHOW, config_option, effective, to_toml
from xaicmp.core.choices import (
    Baseline,
    By,
    Control,
    FailOn,
    Interpolation,
    Only,
    Precision,
    Randomise,
    Reduction,
    Rule,
    Statistic,
)
from xaicmp.views.figures import kind_names
from xaicmp.views.table import FORMATS

MODEL, IMAGES, METHODS = "Model", "Images", "Methods"
COMPARISON, STUDIES, RUNNING, OUTPUT = "Comparison", "Studies", "Running", "Output"


NOISY = ("smoothgrad", "vargrad", "smoothgrad-ig", "gradient-shap", "deeplift-shap")
"""The methods that --noise reaches."""


def formats() -> list[str]:
    """What --format takes: the formats of tables, and JSON."""
    first, *others = FORMATS
    return [first, "json", *others]


def option(panel: str, help: str, metavar: str | None = None, *names: str, **limits: Any) -> Any:
    """A Typer option under the heading ``panel`` of ``--help``."""
    return typer.Option(
        *names, help=help, metavar=metavar, rich_help_panel=panel, show_envvar=False, **limits
    )


Data = Annotated[
    Path | None,
    option(
        IMAGES,
        "Folder that holds CIFAR-10, or a new one to download it into; or the folder that the network was trained on, "
        "for the images that it was tested on. Default: the 1,000 images that ship, beyond them $XAICMP_DATA or the cache.",
        "FOLDER",
    ),
]
Ids = Annotated[
    list[str] | None,
    option(
        IMAGES, "These images, by index or file name: --ids 3 7 12, or 3,7,12, or 0-99, or cat.jpg.", "ID..."
    ),
]
OnlyOption = Annotated[
    Only | None,
    option(IMAGES, "Which images --n counts: those classified correctly, wrongly, or all. Default: correct."),
]
Device = Annotated[str, option(RUNNING, "auto, cpu, cuda (or cuda:1, ...) or mps.", "NAME")]
Seed = Annotated[int, option(RUNNING, "Seed of every random draw.", "N", min=0, max=2**63 - 1)]
Quiet = Annotated[bool, option(RUNNING, "No progress and no remarks on stderr.", None, "--quiet", "-q")]
Resume = Annotated[
    bool,
    option(RUNNING, "Resume from what an interrupted run has kept beside --output.", None, "--resume"),
]


Kind = Annotated[
    str | None,
    option(
        OUTPUT,
        f"What the picture shows: {', '.join(kind_names())}. See docs/figures.md.",
        "NAME",
        autocompletion=offered(kind_names),
    ),
]


def check_format(word: str) -> str:
    """The value of --format; formats that are registered later count too."""
    if word not in formats():
        raise typer.BadParameter(f"{word!r} is not one of {', '.join(formats())}")
    return word


FormatOption = Annotated[
    str,
    option(
        OUTPUT,
        "What to print on stdout.",
        f"[{'|'.join(formats())}]",
        parser=check_format,
        autocompletion=offered(formats),
    ),
]


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """The options of every command that compares explanations."""

    model: Annotated[
        str | None,
        option(
            MODEL,
            "Network to explain: torchvision:resnet50, timm:NAME, or your own code, module:function?width=2. "
            "Default: what --checkpoint says.",
            "NAME",
        ),
    ] = None
    checkpoint: Annotated[
        Path | None,
        option(
            MODEL,
            "Its weights: .pt, .pth or .safetensors. Default without --model: checkpoints/resnet18.pt if you trained "
            "one, else the one that ships.",
            "FILE",
        ),
    ] = None
    weights: Annotated[
        str | None,
        option(MODEL, "Its trained weights by name, a file, or none. Default: the best there are.", "NAME"),
    ] = None
    classes: Annotated[
        Path | None,
        option(
            MODEL, "Names of its classes: one per line, or JSON. Default: those that come with it.", "FILE"
        ),
    ] = None
    input_size: Annotated[
        list[int] | None,
        option(
            MODEL, "Height and width of its images, or one for both. Default: the model's.", "N...", min=1
        ),
    ] = None
    mean: Annotated[
        list[float] | None, option(MODEL, "Mean of its images, of pixels from 0 to 1.", "NUMBER...")
    ] = None
    std: Annotated[
        list[float] | None, option(MODEL, "Standard deviation of its images, likewise.", "NUMBER...")
    ] = None
    crop_pct: Annotated[
        float | None,
        option(MODEL, "Share of a photograph's shorter side that it sees, the middle one.", "SHARE"),
    ] = None
    interpolation: Annotated[Interpolation | None, option(MODEL, "How photographs are resized for it.")] = (
        None
    )
    images: Annotated[
        list[str] | None,
        option(
            IMAGES,
            "Photographs: files, folders, patterns, a .txt list of paths, or - for a list on stdin. Folders in a "
            "folder are classes. Default: CIFAR-10.",
            "PATH...",
        ),
    ] = None
    labels: Annotated[
        Path | None, option(IMAGES, "Labels of the photographs: a .csv file of path and label.", "FILE")
    ] = None
    label_map: Annotated[
        Path | None, option(IMAGES, "The model's class for each label: .csv or .json.", "FILE")
    ] = None
    strict: Annotated[
        bool,
        option(
            IMAGES, "Stop at a photograph that cannot be read, instead of leaving it out.", None, "--strict"
        ),
    ] = False
    data: Data = None
    n: Annotated[int | None, option(IMAGES, "The first N images that --only admits.", "N", min=1)] = None
    ids: Ids = None
    only: OnlyOption = None
    target: Annotated[
        str,
        option(
            METHODS,
            "The class to explain: predicted, label, the name of one, or your own module:function, a score of the "
            "model's output.",
            "CLASS",
        ),
    ] = "predicted"
    methods: Annotated[
        list[str] | None,
        option(
            METHODS,
            "What to compare: names (grad-cam), groups (published, gradient, cam, attention, perturbation, model-free, all), "
            "a name with a reduction or options (saliency:sum, smoothgrad:samples=9), "
            "classes of other libraries (captum:Saliency, pytorch_grad_cam:GradCAM), "
            "your own (package.module:function). Default: published. See explain --list-methods.",
            "NAME...",
            autocompletion=offered(method_names),
        ),
    ] = None
    reduce: Annotated[
        Reduction | None,
        option(METHODS, "How channels and signs become one value per pixel. Default: each method's own."),
    ] = None
    layer: Annotated[
        str | None,
        option(METHODS, "Layer of the CAMs. Default: the last whose maps have more than a pixel.", "NAME"),
    ] = None
    ig_steps: Annotated[int, option(METHODS, "Steps of Integrated Gradients.", "N", min=2)] = 32
    ig_rule: Annotated[Rule, option(METHODS, "Quadrature of Integrated Gradients.")] = "right"
    ig_baseline: Annotated[Baseline, option(METHODS, "Baseline of Integrated Gradients.")] = "zero"
    ig_tolerance: Annotated[
        float,
        option(
            METHODS,
            "Double the steps of Integrated Gradients until the completeness gap is below this share of the score's change.",
            "SHARE",
            min=0,
        ),
    ] = 0.0
    samples: Annotated[
        int | None,
        option(METHODS, "Draws of the methods that draw samples. Default: each method's own.", "N", min=1),
    ] = None
    noise: Annotated[
        float | None,
        option(METHODS, f"Noise of {', '.join(NOISY)}, as a share of the image's range.", "SHARE", min=0),
    ] = None
    statistics: Annotated[
        list[str] | None,
        option(
            COMPARISON,
            f"What to measure: {', '.join(get_args(Statistic))}. Default: pearson iou.",
            "NAME...",
            autocompletion=offered(Statistic),
        ),
    ] = None
    top: Annotated[
        list[float] | None,
        option(
            COMPARISON, "Shares of top pixels that IoU, RBO and the like compare. Default: 0.2.", "SHARE..."
        ),
    ] = None
    controls: Annotated[
        list[str] | None,
        option(
            COMPARISON,
            f"What agreement is held against: {', '.join(get_args(Control))}. Default: other-image shift.",
            "NAME...",
            autocompletion=offered(Control),
        ),
    ] = None
    ci: Annotated[float, option(COMPARISON, "Level of the confidence intervals.", "SHARE")] = 0.95
    margin: Annotated[
        float,
        option(
            COMPARISON,
            "How far a correlation may be from that with another image's map and count as about equal; half of it for "
            "statistics from 0 to 1.",
            "SIZE",
        ),
    ] = 0.05
    batch_size: Annotated[
        int | None,
        option(
            RUNNING,
            "Most images in one pass through the model. Default: 64, on a GPU 512; fewer if memory runs out.",
            "N",
            min=1,
        ),
    ] = None
    device: Device = "auto"
    precision: Annotated[Precision, option(RUNNING, "What the model computes in.")] = "float32"
    fast: Annotated[
        bool,
        option(
            RUNNING,
            "Approximate: 8 steps of IG, in bf16 where the hardware has it.",
            None,
            "--fast",
        ),
    ] = False
    seed: Seed = 0
    quiet: Quiet = False


def check_by(word: str) -> str:
    """One value of --by; Typer knows no list of choices."""
    if word not in get_args(By):
        raise typer.BadParameter(f"{word!r} is not one of {', '.join(get_args(By))}")
    return word


@dataclass(frozen=True, kw_only=True)
class Measuring(Comparing):
    """The options of ``metrics``."""

    maps: Annotated[
        Path | None,
        option(
            STUDIES,
            "Compare the maps in this .npz file, or show this .json of a comparison again.",
            "FILE",
            "--from",
        ),
    ] = None
    compare_pairs: Annotated[
        bool, option(STUDIES, "Also test whether the pairs differ.", None, "--compare-pairs")
    ] = False
    by: Annotated[
        list[str] | None,
        option(
            STUDIES,
            f"Also show agreement by {', '.join(get_args(By))}.",
            "NAME...",
            parser=check_by,
            autocompletion=offered(By),
        ),
    ] = None
    rerun: Annotated[
        bool, option(STUDIES, "Also compare each method with itself under another seed.", None, "--rerun")
    ] = False
    against: Annotated[
        Path | None, option(STUDIES, "Also compare each method with itself on this checkpoint.", "PATH")
    ] = None
    checkpoints: Annotated[
        list[Path] | None,
        option(
            STUDIES,
            "Also compare on all of these checkpoints: means over checkpoints and images, and what varies with which. "
            "Without --checkpoint the first stands for it.",
            "FILE...",
        ),
    ] = None
    consensus: Annotated[
        bool,
        option(
            STUDIES,
            "Also show which methods belong together, and how far each is from what all have in common.",
            None,
            "--consensus",
        ),
    ] = False
    randomise: Annotated[
        Randomise | None,
        option(
            STUDIES, "Also compare each method's maps with those of a model whose weights are re-initialised."
        ),
    ] = None
    draws: Annotated[
        int | None,
        option(STUDIES, "Re-initialised models of --randomise at each stage. Default: 5.", "N", min=1),
    ] = None
    faithfulness: Annotated[
        bool,
        option(
            STUDIES,
            "Also measure whether the maps point at what the model uses.",
            None,
            "--faithfulness",
        ),
    ] = False
    properties: Annotated[
        bool,
        option(
            STUDIES,
            "Also show what each method's maps are like: how concentrated, how steady, how much about the class.",
            None,
            "--properties",
        ),
    ] = False
    masks: Annotated[
        Path | None,
        option(
            STUDIES,
            "Also measure whether the maps point at the object: a folder of masks, called like the images, or a .csv "
            "of boxes (path,x0,y0,x1,y1).",
            "PATH",
        ),
    ] = None
    cost: Annotated[bool, option(STUDIES, "Also show what each method costs.", None, "--cost")] = False
    plot: Annotated[
        Path | None,
        option(
            OUTPUT,
            "Draw the --kind: .png, .pdf or .svg.",
            "FILE",
        ),
    ] = None
    kind: Kind = None
    report: Annotated[
        Path | None,
        option(
            OUTPUT,
            "Write one page that shows all of it, the images too, in any browser, offline: .html. Takes other-class like --details.",
            "FILE",
        ),
    ] = None
    fail_under: Annotated[
        list[str] | None,
        option(
            OUTPUT,
            "End with status 3 if a mean is below: pearson=0.3, for one pair lrp,cam:pearson=0.3. With --against "
            "pearson=0.3 is of each method with itself.",
            "BOUND...",
            autocompletion=offered(Statistic, end="="),
        ),
    ] = None
    fail_on: Annotated[
        FailOn, option(OUTPUT, "What --fail-under looks at: the mean, or the lower end of its interval.")
    ] = "mean"

    @property
    def of_model(self) -> list[str]:
        """The studies that are asked for and take the model."""
        names = (
            "rerun",
            "against",
            "checkpoints",
            "consensus",
            "randomise",
            "faithfulness",
            "properties",
            "masks",
            "cost",
        )
        return [name for name in names if getattr(self, name)]

    @property
    def studies(self) -> bool:
        """Whether any is asked for."""
        return bool(self.compare_pairs or self.by or self.of_model)


def with_options(options: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command out of a function whose first parameter is an ``options`` dataclass.

    The dataclass's fields become options of the command, before the function's own.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(options, include_extras=True)
        shared = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints[field.name],
            )
            for field in fields(options)
        ]
        signature = inspect.signature(function, eval_str=True)
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in list(signature.parameters.values())[1:]
        ]
        shared_and_own = {each.name: each.annotation for each in (*shared, *own)}
        own += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, annotation, default in (
                ("config", Annotated[Path | None, config_option(shared_and_own)], None),
                ("show_config", Annotated[bool, SHOW], False),
                ("context", typer.Context, inspect.Parameter.empty),
            )
        ]

        @functools.wraps(function)
        def command(context: typer.Context, config: Path | None, show_config: bool, **values: Any) -> None:
            given = to_toml(effective(context, values))
            if show_config:
                sys.stdout.write(given)
                return
            ORIGIN.set({"command": context.find_root().obj, "config": given})
            chosen = options(**{field.name: values.pop(field.name) for field in fields(options)})
            function(chosen, **values)

        parameters = shared + own
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate
