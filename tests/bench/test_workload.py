import json
import time
from pathlib import Path
from typing import Literal

import pytest
import torch

from xlt.bench.workload import (
    ALONE,
    BEFORE,
    LAST,
    UNREACHED,
    Candidate,
    Deferred,
    NotRun,
    bench,
    check_output,
    compare,
    compiled_peers,
    keep_rows,
    time_limit,
)

ONE = torch.ones(3)


def nothing() -> None:
    pass


def sleeper(seconds: float) -> Candidate:
    return Candidate(f"{seconds}", lambda: time.sleep(seconds))


def failing() -> None:
    raise RuntimeError("no such operator\non this device")


def test_the_ratio_is_a_baseline_over_ours() -> None:
    row = compare(
        "sleep", "", [sleeper(0.002), sleeper(0.02), sleeper(0.01)], rounds=3, quantity={"naps": 1.0}, warm_up=1
    )
    ours, slow, fast = row.timings
    assert ours.ratio == 1
    assert slow.ratio is not None
    assert fast.ratio is not None
    assert slow.ratio > fast.ratio > 1


def test_a_baseline_that_is_absent_or_fails_is_named_with_the_reason_in_its_place() -> None:
    row = compare(
        "sleep",
        "",
        [sleeper(0.001), NotRun("liger", "not installed"), Candidate("broken", failing)],
        rounds=2,
        quantity={},
    )
    assert [each.not_run for each in row.timings] == ["", "not installed", "no such operator on this device"]
    assert all(each.seconds is None for each in row.timings[1:])


def test_where_ours_does_not_run_nothing_is_timed_and_the_reason_stays() -> None:
    row = compare("sleep", "", [Candidate("ours", failing), sleeper(0.001)], rounds=2, quantity={}, ceiling="copy")
    assert [each.not_run for each in row.timings] == ["no such operator on this device", ALONE]
    assert all(each.seconds is None for each in row.timings[1:])


def test_candidates_take_turns_after_their_warm_up() -> None:
    order: list[str] = []
    both = [Candidate(name, lambda name=name: order.append(name)) for name in "ab"]  # type: ignore[misc]
    compare("turns", "", both, rounds=3, quantity={}, warm_up=2)
    assert "".join(order) == "aabb" + "ab" * 3


def test_who_is_compiled_comes_when_the_others_are_done_in_turn_with_ours() -> None:
    order: list[str] = []

    def candidate(name: str) -> Candidate:
        return Candidate(name, lambda: order.append(name))

    def late(name: str) -> Deferred:
        return Deferred(name, lambda: order.append("compiled") or candidate(name))

    entries = [candidate("a"), late("x"), candidate("b"), Deferred("absent", lambda: NotRun("absent", "no compiler"))]
    row = compare("turns", "", entries, rounds=2, quantity={}, warm_up=1)
    assert order == [*"ab", *"abab", "compiled", "x", *"axax"]
    assert [(each.name, each.not_run, each.seconds is None) for each in row.timings] == [
        ("a", "", False),
        ("x", "", False),
        ("b", "", False),
        ("absent", "no compiler", True),
    ]


def test_who_is_not_ready_in_time_is_named_and_the_rest_of_the_row_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xlt.bench.workload.PATIENCE", {"cpu": 0.05})
    start = time.monotonic()
    slow = Deferred("slow", lambda: time.sleep(5) or sleeper(0.0))
    row = compare("nap", "", [sleeper(0.001), slow], rounds=1, quantity={})
    assert time.monotonic() - start < 4
    assert "not ready within" in row.timings[1].not_run
    assert row.timings[0].seconds
    with time_limit():
        pass
    time.sleep(0.1)  # the alarm is off


def test_a_limit_within_another_ends_no_later_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xlt.bench.workload.PATIENCE", {"cpu": 0.2})
    start = time.monotonic()

    def nested() -> None:
        with time_limit():
            time.sleep(0.15)
            with time_limit():
                pass
            time.sleep(5)

    with pytest.raises(TimeoutError):
        nested()
    assert time.monotonic() - start < 4


def test_a_slow_baseline_takes_no_time_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xlt.bench.workload.PATIENCE", {"cpu": 60.0, "cuda": 1.0})
    calls: list[str] = []
    slow = Candidate("slow", lambda: calls.append("slow") or time.sleep(0.2))
    row = compare("nap", "", [sleeper(0.001), slow, sleeper(0.002)], rounds=10, quantity={}, warm_up=1)
    assert calls == ["slow"]
    assert row.timings[1].not_run.startswith("too slow: a round took ")
    assert row.timings[0].seconds
    assert row.timings[2].seconds
    short = compare("nap", "", [sleeper(0.001), slow], rounds=2, quantity={}, warm_up=1)
    assert short.timings[1].seconds


@pytest.mark.parametrize(("which", "timed"), [("without", "ab"), ("only", "ax"), ("with", "abx")])
def test_who_is_compiled_can_wait_for_all_benchmarks(
    which: Literal["with", "without", "only"], timed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xlt.bench.workload._compiled", "with")
    compiled_peers(which)
    entries = [Candidate("a", nothing), Deferred("x", lambda: Candidate("x", nothing)), Candidate("b", nothing)]
    row = compare("turns", "", entries, rounds=1, quantity={})
    assert {each.name for each in row.timings if each.seconds is not None} == set(timed)
    assert {each.not_run for each in row.timings if each.name not in timed} <= {BEFORE, LAST}


def test_a_row_is_on_the_disk_before_the_next_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed() -> Candidate:
        raise KeyboardInterrupt

    monkeypatch.setattr("xlt.bench.workload._kept", None)
    file = tmp_path / "rows"
    keep_rows(file)
    compare("first", "", [sleeper(0.001)], rounds=1, quantity={})
    with pytest.raises(KeyboardInterrupt):
        compare("second", "", [sleeper(0.001), Deferred("compiled", killed)], rounds=1, quantity={})
    found = json.loads(file.read_text("utf-8"))
    assert found["device"] == "cpu"
    assert [row["name"] for row in found["workloads"]] == ["first", "second"]
    ours, compiled = found["workloads"][1]["timings"]
    assert ours["seconds"] > 0
    assert compiled["not_run"] == UNREACHED


def test_a_candidate_with_its_own_clock_says_its_seconds() -> None:
    row = compare("host", "", [Candidate("ours", lambda: 2.0, own_clock=True)], rounds=3, quantity={})
    assert row.timings[0].seconds == 2.0


def test_the_share_of_a_ceiling_is_the_rate_over_what_the_device_reached() -> None:
    row = compare("nap", "", [sleeper(0.01)], rounds=3, quantity={"flop": 1e6}, ceiling="matmul")
    result = bench("naps", {}, [row])
    assert result.sound
    assert (result.numerics, result.load is not None) == ("native", True)
    assert result.ceilings.matmul_flop_per_s > 0
    assert result.ceilings.copy_bytes_per_s > 0
    assert row.timings[0].seconds is not None
    assert row.share == pytest.approx(1e6 / row.timings[0].seconds / result.ceilings.matmul_flop_per_s)


def test_what_computes_the_same_is_a_candidate() -> None:
    assert check_output("a", nothing, lambda: [ONE + 1e-6], [ONE], 1e-5) == Candidate("a", nothing)


@pytest.mark.parametrize("wrong", [ONE + 1e-4, ONE * torch.nan])
def test_what_computes_something_else_does_not_run(wrong: torch.Tensor) -> None:
    found = check_output("a", nothing, lambda: [ONE, wrong], [ONE, ONE], 1e-5)
    assert isinstance(found, NotRun)
    assert found.why.startswith("computes something else: result 1 is off by")


def test_what_fails_does_not_run_and_says_why() -> None:
    def failing() -> list[torch.Tensor]:
        raise TypeError("got an unexpected keyword\nargument")

    assert check_output("a", nothing, failing, [ONE], 1e-5) == NotRun("a", "got an unexpected keyword argument")
