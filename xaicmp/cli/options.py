"""The options that subcommands share, each written once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

MODEL, IMAGES, COMPARISON, RUNNING = "Model", "Images", "Comparison", "Running"


class Only(str, Enum):
    """Which images ``--n`` counts."""

    correct = "correct"
    wrong = "wrong"
    all = "all"


class Precision(str, Enum):
    """What the model computes in."""

    float32 = "float32"
    bf16 = "bf16"


class Format(str, Enum):
    """What is written to stdout."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"


Checkpoint = Annotated[
    Path | None,
    typer.Option(
        help="Model to explain. Default: checkpoints/resnet18.pt if you trained one, else the one that ships.",
        metavar="PATH",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder that holds CIFAR-10, or a new one to download it into. Default: the 1,000 images that "
        "ship, beyond them $XAICMP_DATA or the cache.",
        metavar="FOLDER",
        rich_help_panel=IMAGES,
        show_default=False,
    ),
]
Ids = Annotated[
    list[str] | None,
    typer.Option(
        help="These images, by index: --ids 3 7 12, or 3,7,12, or 0-99.",
        metavar="ID...",
        rich_help_panel=IMAGES,
        show_default=False,
    ),
]
OnlyOption = Annotated[
    Only | None,
    typer.Option(
        help="Which images --n counts: those classified correctly, wrongly, or all. Default: correct.",
        rich_help_panel=IMAGES,
        show_default=False,
    ),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        help="Methods to compare: two or more of grad-cam, saliency, integrated-gradients. Default: all three.",
        metavar="NAME...",
        rich_help_panel=COMPARISON,
        show_default=False,
    ),
]
Top = Annotated[
    float,
    typer.Option(help="Share of top pixels that IoU compares.", metavar="SHARE", rich_help_panel=COMPARISON),
]
IgSteps = Annotated[
    int, typer.Option(min=2, help="Steps of Integrated Gradients.", metavar="N", rich_help_panel=COMPARISON)
]
BatchSize = Annotated[
    int,
    typer.Option(
        min=1, help="Most images in one pass through the model.", metavar="N", rich_help_panel=RUNNING
    ),
]
Device = Annotated[
    str,
    typer.Option(help="auto, cpu, cuda (or cuda:1, ...) or mps.", metavar="NAME", rich_help_panel=RUNNING),
]
PrecisionOption = Annotated[
    Precision, typer.Option(help="What the model computes in.", rich_help_panel=RUNNING)
]
Seed = Annotated[
    int,
    typer.Option(
        min=0, max=2**63 - 1, help="Seed of every random draw.", metavar="N", rich_help_panel=RUNNING
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no remarks on stderr.", rich_help_panel=RUNNING)
]
FormatOption = Annotated[Format, typer.Option(help="What to print on stdout.", rich_help_panel="Output")]


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """The options of every command that compares explanations."""

    checkpoint: Checkpoint = None
    data: Data = None
    n: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The first N images that --only admits.",
            metavar="N",
            rich_help_panel=IMAGES,
            show_default=False,
        ),
    ] = None
    ids: Ids = None
    only: OnlyOption = None
    methods: Methods = None
    top: Top = 0.2
    ig_steps: IgSteps = 32
    batch_size: BatchSize = 64
    device: Device = "auto"
    precision: PrecisionOption = Precision.float32
    seed: Seed = 0
    quiet: Quiet = False


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

        @functools.wraps(function)
        def command(**values: Any) -> None:
            chosen = options(**{field.name: values.pop(field.name) for field in fields(options)})
            function(chosen, **values)

        parameters = shared + own
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate
