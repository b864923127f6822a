"""Tiny trainings and whole command lines as processes of their own, to be killed, stopped and multiplied.

Starting a process that imports torch takes seconds, so this one starts once, computes nothing, and forks:
it reads jobs from stdin, a line of JSON each, answers with the process ids, and then with the statuses.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
from torch import nn

from xaicmp.core.images.cifar10 import load_sample
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.machine.processes import processes
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.checkpoint import load_checkpoint
from xaicmp.core.training.loop import Training, train
from xaicmp.core.training.recipe import Recipe, Run
from xaicmp.errors import XaicmpError

SGD = Recipe(
    optimiser="sgd",
    lr=0.05,
    momentum=0.9,
    nesterov=False,
    weight_decay=5e-4,
    batch_size=16,
    schedule="one-cycle",
    warmup=0.25,
    label_smoothing=0.1,
    crop=2,
    padding="reflect",
    flip="alternating",
    whiten=False,
    average=0.9,
)


def plain(classes: int = 10) -> nn.Module:
    """Two convolutions and a head, whose output depends on each image alone."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, classes),
    )


def normalised(classes: int = 10) -> nn.Module:
    """The same with BatchNorm."""
    first, relu, second, *rest = plain(classes)
    return nn.Sequential(first, nn.BatchNorm2d(8), relu, second, nn.BatchNorm2d(12), *rest)


SMALL = {"tiny": plain, "tiny-normalised": normalised}


def part(start: int, stop: int) -> ImageSet:
    """Images of the sample as a set of their own."""
    sample = load_sample()
    return ImageSet(
        sample.name, sample.split, True, sample.tensor[start:stop], sample.labels[start:stop], sample.classes
    )


# For the tests in one process


def weights(path):
    """The weights in a file."""
    return load_checkpoint(path).classifier.module.state_dict()


def listing(folder):
    """The names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def same(a, b):
    """Whether two sets of weights are alike to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def trained(path, recipe=SGD, epochs=2, images=96, test=50, architecture="tiny-normalised", **options):
    """A small training; ``options`` are those of ``Run`` and of ``Training``."""
    of_run = {name: options.pop(name) for name in ("seed", "precision", "store") if name in options}
    run = Run(recipe, epochs, architecture=architecture, **of_run)
    return train(run, part(0, images), part(500, 500 + test), path, Training(**options))


def interrupt(epoch, batch=1):
    """A step callback that presses Ctrl-C."""
    return lambda step: (step.epoch, step.batch) == (epoch, batch) and os.kill(os.getpid(), signal.SIGINT)


# For the tests in several


def say(line: str) -> None:
    """At once, so that a test that reads along hears it."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(folder: Path, options: dict) -> int:
    """Train as told, once for each file named; the exit status is that of the command."""
    torch.set_num_threads(1)
    ARCHITECTURES.update(SMALL)
    device = torch.device("cpu")
    if "largest_file" in options:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options["largest_file"],) * 2)
    run = Run(
        Recipe(**options["recipe"]),
        options["epochs"],
        seed=options.get("seed", 0),
        architecture=options["architecture"],
    )
    path = folder / options.get("file", "small.pt")
    with processes(device) as group:
        resume = load_checkpoint(path) if options.get("resume") and path.exists() else None
        steps = []

        def on_step(step):
            steps.append((step.epoch, step.batch, step.loss, step.accuracy))
            time.sleep(options.get("pause", 0))
            if options.get("tell"):
                say(f"epoch {step.epoch} batch {step.batch}")

        try:
            checkpoint = train(
                run,
                part(0, options.get("images", 96)),
                part(500, 500 + options.get("test", 50)),
                path,
                Training(resume=resume, processes=group, on_step=on_step),
            )
        except XaicmpError as error:
            say(f"failed: {error}")
            return 1
        except KeyboardInterrupt:
            say(f"stopped after {len(steps)} steps")
            return 130
        said = {"steps": steps, "accuracy": checkpoint.test_accuracy, "pid": os.getpid()}
        (folder / f"rank-{group.rank}.json").write_text(json.dumps(said))
    return 0


def child(job: dict, rank: int) -> int:
    """What a forked process does; the exit status."""
    if job["world"] > 1:
        os.environ |= {
            "TORCHELASTIC_RUN_ID": "test",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(job["port"]),
            "WORLD_SIZE": str(job["world"]),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
        }
    terminal = job.get("terminal")
    if terminal:
        # A session of its own, so that the terminal's Ctrl-C arrives.
        os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        # The first terminal that a session's leader opens becomes its own.
        target = os.open(
            terminal or f"{job['folder']}/{name}-{rank}.txt", os.O_RDWR | os.O_CREAT | os.O_TRUNC
        )
        os.dup2(target, number)
    os.chdir(job["folder"])
    os.environ |= job.get("environment", {})
    if "command" in job:
        import xaicmp.cli

        torch.set_num_threads(1)
        # Made anew, as in a process of its own: those of the server may have been files, in which one can seek.
        sys.stdout, sys.stderr = (
            os.fdopen(number, "w", buffering=1, encoding=job.get("encoding"), closefd=False)
            for number in (1, 2)
        )
        sys.argv = ["xaicmp", *job["command"]]
        try:
            xaicmp.cli.main()
        except SystemExit as left:
            return int(left.code or 0)
    return main(Path(job["folder"]), job["training"])


def serve() -> None:
    """Fork a process, or several that train together, for each job."""
    import torch._dynamo  # what an optimiser imports at its first step
    import torchvision

    import xaicmp.cli
    import xaicmp.cli.session
    import xaicmp.core.run.comparing
    import xaicmp.views.tables.comparison

    assert torch and torchvision and xaicmp
    gc.freeze()  # lest each looks for garbage in all of that, and so copies it
    for line in sys.stdin:
        job = json.loads(line)
        pids = []
        for rank in range(job["world"]):
            pids.append(os.fork())
            if pids[-1] == 0:
                status = 70
                try:
                    status = child(job, rank)
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(status)
        say(json.dumps(pids))
        say(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]))


if __name__ == "__main__":
    serve()
