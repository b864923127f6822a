"""What is said of how far a command is: shares by cost, stages by name, lines where there is no terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import torch
from small import small_classifier

from xaicmp import Running, Settings, compare
from xaicmp.cli import progress
from xaicmp.cli.progress import Stages, duration
from xaicmp.core.attribution import METHODS, get_methods


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def lines(monkeypatch: pytest.MonkeyPatch, clock: Clock, told: list[tuple[float, str, float]]) -> list[str]:
    """What is written without a terminal when a stage is told its shares at these times."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    show = Stages(quiet=False)
    for clock.now, stage, share in told:
        show(stage, share * 20, 20)
    return stream.getvalue().splitlines()


def test_without_a_terminal_there_is_a_line_every_tenth_or_half_minute(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    steady = [(second, "explaining", second / 300) for second in range(301)]
    said = lines(monkeypatch, clock, steady)
    assert said[0] == "xaicmp: explaining takes about 5 min here"
    assert said[1] == "xaicmp: explaining 10%, 30 s gone, about 4 min left"
    assert len(said) == 1 + 9  # of the last tenth the result speaks
    slow = [(second, "explaining", second / 3000) for second in range(301)]
    assert len(lines(monkeypatch, clock, slow)) == 1 + 10
    quick = [(second / 10, "explaining", second / 90) for second in range(91)]
    assert lines(monkeypatch, clock, quick) == []


def test_what_was_done_before_does_not_count_as_speed(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Half is resumed in no time; the other half takes 200 seconds. And a stage that begins again starts anew."""
    resumed = [(float(second), "explaining", 0.5 + second / 400) for second in range(201)]
    again = [(1000.0 + second, "explaining", second / 100) for second in range(50)]
    said = lines(monkeypatch, clock, resumed + again)
    assert said[0] == "xaicmp: explaining takes about 3 min here"
    assert "xaicmp: explaining takes about 2 min here" in said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (720, "12 min"), (12_000, "3 h 20 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_the_cost_in_words_is_a_number_of_passes() -> None:
    passes = {
        method.name: method.passes
        for method in get_methods(
            ["saliency", "integrated-gradients:steps=50", "smoothgrad-ig", "rise", "occlusion", "edge"]
        )
    }
    assert list(passes.values()) == [2, 100, 2 * 5 * 32, 2000, 226, 0.1]
    assert all(method.passes > 0 for method in METHODS.values())


def test_a_method_counts_by_its_cost_and_tells_of_its_steps() -> None:
    told: list[tuple[str, float]] = []
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    running = Running(batch_size=4, progress=lambda stage, done, total: told.append((stage, done / total)))
    methods = ["saliency", "integrated-gradients:steps=8", "smoothgrad-ig:samples=8,steps=8"]
    compare(
        small_classifier(mean=(0.0,), std=(1.0,)),
        images,
        methods=methods,
        settings=Settings(),
        running=running,
    )
    assert [stage for stage, _ in told] == sorted(stage for stage, _ in told)  # explaining, then measuring
    shares = [share for stage, share in told if stage == "explaining"]
    assert shares == sorted(shares) and (shares[0], shares[-1]) == (0, 1)
    passes = 2, 16, 128
    assert sum(passes[:1]) / sum(passes) in shares and sum(passes[:2]) / sum(passes) in shares
    within = [share for share in shares if sum(passes[:2]) / sum(passes) < share < 1]
    assert len(within) >= 2 * 8 and len(set(within)) >= 8
    measuring = [share for stage, share in told if stage == "measuring"]
    assert measuring == [
        number / 8 for number in range(9)
    ]  # two statistics, each alone and with three controls
