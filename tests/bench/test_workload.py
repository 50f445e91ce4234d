import time
from pathlib import Path

import pytest

from xlt.bench.workload import (
    ALONE,
    UNREACHED,
    Contestant,
    Later,
    NotRun,
    bench,
    compete,
    keep_rows,
    kept_rows,
    time_limit,
)


def sleeper(seconds: float) -> Contestant:
    return Contestant(f"{seconds}", lambda: time.sleep(seconds))


def failing() -> None:
    raise RuntimeError("no such operator\non this device")


def test_the_ratio_is_peer_over_ours_and_the_fastest_peer_is_found() -> None:
    row = compete(
        "sleep", "", [sleeper(0.002), sleeper(0.02), sleeper(0.01)], rounds=3, quantity={"naps": 1.0}, warm_up=1
    )
    ours, slow, fast = row.timings
    assert ours.ratio == 1
    assert slow.ratio is not None
    assert fast.ratio is not None
    assert slow.ratio > fast.ratio > 1
    assert row.fastest_peer() == fast


def test_a_peer_that_is_absent_or_fails_is_named_with_the_reason_in_its_place() -> None:
    row = compete(
        "sleep",
        "",
        [sleeper(0.001), NotRun("liger", "not installed"), Contestant("broken", failing)],
        rounds=2,
        quantity={},
    )
    assert [each.not_run for each in row.timings] == ["", "not installed", "no such operator on this device"]
    assert row.fastest_peer() is None


def test_where_ours_does_not_run_nothing_is_timed_and_the_reason_stays() -> None:
    row = compete("sleep", "", [Contestant("ours", failing), sleeper(0.001)], rounds=2, quantity={}, ceiling="copy")
    assert [each.not_run for each in row.timings] == ["no such operator on this device", ALONE]
    assert row.fastest_peer() is None


def test_contestants_take_turns_after_their_warm_up() -> None:
    order: list[str] = []
    both = [Contestant(name, lambda name=name: order.append(name)) for name in "ab"]  # type: ignore[misc]
    compete("turns", "", both, rounds=3, quantity={}, warm_up=2)
    assert "".join(order) == "aabb" + "ab" * 3


def test_who_is_compiled_comes_when_the_others_are_done_in_turn_with_ours() -> None:
    order: list[str] = []

    def contestant(name: str) -> Contestant:
        return Contestant(name, lambda: order.append(name))

    def late(name: str) -> Later:
        return Later(name, lambda: order.append("compiled") or contestant(name))

    entries = [contestant("a"), late("x"), contestant("b"), Later("absent", lambda: NotRun("absent", "no compiler"))]
    row = compete("turns", "", entries, rounds=2, quantity={}, warm_up=1)
    assert order == [*"ab", *"abab", "compiled", "x", *"axax"]
    assert [(each.name, each.not_run, each.seconds is None) for each in row.timings] == [
        ("a", "", False),
        ("x", "", False),
        ("b", "", False),
        ("absent", "no compiler", True),
    ]


def test_who_is_not_ready_in_time_is_named_and_the_rest_of_the_row_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xlt.bench.workload.PATIENCE", 0.05)
    start = time.monotonic()
    slow = Later("slow", lambda: time.sleep(5) or sleeper(0.0))
    row = compete("nap", "", [sleeper(0.001), slow], rounds=1, quantity={})
    assert time.monotonic() - start < 4
    assert "not ready within" in row.timings[1].not_run
    assert row.timings[0].seconds
    with time_limit(0.05):
        pass
    time.sleep(0.1)  # the alarm is off


def test_a_row_is_on_the_disk_before_the_next_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed() -> Contestant:
        raise KeyboardInterrupt

    monkeypatch.setattr("xlt.bench.workload._kept", None)
    file = tmp_path / "rows"
    keep_rows(file)
    compete("first", "", [sleeper(0.001)], rounds=1, quantity={})
    with pytest.raises(KeyboardInterrupt):
        compete("second", "", [sleeper(0.001), Later("compiled", killed)], rounds=1, quantity={})
    file.write_text(file.read_text("utf-8") + '{"name": "third', encoding="utf-8")
    found = kept_rows(file)
    assert found["device"] == "cpu"
    assert [row["name"] for row in found["workloads"]] == ["first", "second"]
    ours, compiled = found["workloads"][1]["timings"]
    assert ours["seconds"] > 0
    assert compiled["not_run"] == UNREACHED


def test_a_contestant_with_its_own_clock_says_its_seconds() -> None:
    row = compete("host", "", [Contestant("ours", lambda: 2.0, own_clock=True)], rounds=3, quantity={})
    assert row.timings[0].seconds == 2.0


def test_the_share_of_a_ceiling_is_the_rate_over_what_the_device_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xlt.bench.workload.MATMUL", {"cpu": 128, "cuda": 128})
    monkeypatch.setattr("xlt.bench.workload.COPIED", {"cpu": 1 << 16, "cuda": 1 << 16})
    row = compete("nap", "", [sleeper(0.01)], rounds=3, quantity={"flop": 1e6}, ceiling="matmul")
    result = bench("naps", {}, [row])
    assert result.sound
    assert result.ceilings.matmul_flop_per_s > 0
    assert result.ceilings.copy_bytes_per_s > 0
    assert row.timings[0].seconds is not None
    assert row.share == pytest.approx(1e6 / row.timings[0].seconds / result.ceilings.matmul_flop_per_s)
