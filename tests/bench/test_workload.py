import time

import pytest

from xlt.bench.workload import ALONE, Contestant, NotRun, bench, compete


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
