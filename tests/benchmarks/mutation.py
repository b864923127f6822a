"""Changes one place of the statistics at a time, and looks whether a test notices.

    python tests/benchmarks/mutation.py --mutants 60

The places are drawn with a seed from all comparisons, sums and products, numbers, conditions and returned values of
``core/agreement`` and ``core/results``. Each mutant is tried in a copy of the tree, by the tests of its own room and those in
``RELATED``, up to the first that fails. Prints those that no test noticed, and the share that one did.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("agreement", "results")
RELATED = {
    "agreement": ("core/run/test_scoring.py", "core/run/test_scored_controls.py"),
    "results": (
        "core/run/test_scoring.py",
        "core/run/test_other_class.py",
        "core/studies/test_places.py",
        "cli/test_gate.py",
    ),
}
SLOW = ("test_calibration.py", "test_crossed.py")
"""Simulations, which come last."""

HEAVY = (
    "torch",
    "torchvision",
    "captum.attr",
    "scipy.stats",
    "scipy.ndimage",
    "hypothesis",
    "pytest",
)
"""Imported once, before the mutants are forked."""

LEFT = (".git", "__pycache__", ".hypothesis", ".*cache")
"""What a copy of the tree goes without."""

MEMORY = 16 * 2**30
"""Bytes that a mutant may reserve."""

SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    match node:
        case ast.Compare(left, [operator, *rest], others):
            for other in SWAPS[type(operator)]:
                yield ast.Compare(left, [other(), *rest], others)
        case ast.BinOp(left, operator, right) if type(operator) in SWAPS and not _is_type(node):
            yield ast.BinOp(left, SWAPS[type(operator)][0](), right)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(SWAPS[type(operator)][0](), values)
        case ast.UnaryOp(ast.Not() | ast.USub() | ast.Invert(), operand):
            yield operand
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.If(test, body, orelse):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Return(ast.BinOp(left, _, right)):
            yield from (ast.Return(left), ast.Return(right))


def _is_type(node: ast.BinOp) -> bool:
    return isinstance(node.op, ast.BitOr) and isinstance(node.right, ast.Constant | ast.Name)


def places(tree: ast.AST) -> list[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every change: the parent, its field, the index in it, and what would stand there."""
    found = []
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if field in ("annotation", "returns"):
                continue
            for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(node, ast.AST):
                    found += [(parent, field, index, each) for each in changed(node)]
    return found


def mutate(source: str, number: int) -> tuple[str, int, str]:
    """The source after one of its changes, its line, and what it was and is."""
    tree = ast.parse(source)
    parent, field, index, new = places(tree)[number]
    holder = getattr(parent, field)
    old = holder if index is None else holder[index]
    said = [ast.unparse(each).splitlines()[0] for each in (old, new)]
    ast.copy_location(new, old)
    if index is None:
        setattr(parent, field, new)
    else:
        holder[index] = new
    return ast.unparse(ast.fix_missing_locations(tree)), old.lineno, " -> ".join(said)


def tests_of(module: Path) -> list[str]:
    """The files of tests that a module's mutants are tried by, its own first."""
    room = module.parent.name
    own = sorted(
        (ROOT / "tests" / "core" / room).glob("test_*.py"),
        key=lambda each: (
            each.name != f"test_{module.stem}.py",
            each.name in SLOW,
            each.name,
        ),
    )
    return [str(each.relative_to(ROOT)) for each in own] + [f"tests/{each}" for each in RELATED[room]]


def status(copy: Path, tests: list[str], seconds: float) -> int | None:
    """The exit status of the tests in a copy of the tree, None if they had to be stopped."""
    child = os.fork()
    if not child:
        code = 99
        with suppress(BaseException):
            code = _run(copy, tests)
        os._exit(code)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(code)
        time.sleep(0.05)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None


def _run(copy: Path, tests: list[str]) -> int:
    import pytest

    os.chdir(copy)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    sys.path[:] = [
        str(copy),
        *(each for each in sys.path if Path(each).resolve() != ROOT),
    ]
    with (copy / "tests.log").open("w") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
        return int(pytest.main(["-x", "-q", "-n0", "-p", "no:cacheprovider", *tests]))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mutants", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=ROOMS)
    parser.add_argument("--seconds", type=float, default=600, help="that the tests of a mutant may take")
    options = parser.parse_args()
    modules = [each for room in options.rooms for each in sorted((ROOT / "xaicmp/core" / room).glob("*.py"))]
    every = [(each, n) for each in modules for n in range(len(places(ast.parse(each.read_text()))))]
    random.Random(options.seed).shuffle(every)
    drawn = every[: options.mutants]
    for name in HEAVY:
        importlib.import_module(name)
    survived = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT))
        for room in options.rooms:
            if status(copy, tests_of(ROOT / "xaicmp/core" / room / "any.py"), options.seconds) != 0:
                say((copy / "tests.log").read_text()[-3000:])
                say(f"the tests of {room} fail, or take too long, without a mutant")
                return 1
        for module, number in drawn:
            path, source = copy / module.relative_to(ROOT), module.read_text()
            mutant, line, said = mutate(source, number)
            path.write_text(mutant)
            begun = time.monotonic()
            code = status(copy, tests_of(module), options.seconds)
            path.write_text(source)
            outcome = {0: "SURVIVED", None: "stopped"}.get(code, "noticed")
            survived += [said] * (code == 0)
            seconds = time.monotonic() - begun
            log = (copy / "tests.log").read_text().splitlines()
            failed = [each.split()[1] for each in log if each.startswith(("FAILED", "ERROR"))]
            say(
                f"{outcome:8} {seconds:4.0f} s  {module.relative_to(ROOT)}:{line}  {said}  {''.join(failed[:1])}"
            )
    caught = len(drawn) - len(survived)
    say(f"{caught} of {len(drawn)} mutants noticed ({caught / len(drawn):.0%}), of {len(every)} possible")
    return 0


if __name__ == "__main__":
    sys.exit(main())
