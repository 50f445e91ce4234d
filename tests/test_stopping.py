"""A request to stop, inside a block that looks for it."""

from __future__ import annotations

import pytest

from xlt.cli.app import _interrupted
from xlt.stopping import StopRequest


def test_a_block_that_fails_after_a_request_ends_the_process_too(capfd: pytest.CaptureFixture[str]) -> None:
    request = StopRequest()

    def fail_after_a_request() -> None:
        with request.heard():
            request.receive()
            raise RuntimeError("the same signal ended the compiler")

    with pytest.raises(KeyboardInterrupt) as caught:
        fail_after_a_request()
    assert isinstance(caught.value.__context__, RuntimeError)
    assert "once more stops at once" in capfd.readouterr().err


def test_a_block_that_fails_without_a_request_fails() -> None:
    with pytest.raises(RuntimeError), StopRequest().heard():
        raise RuntimeError("of its own")


@pytest.mark.parametrize(
    ("command", "kept"), [("reproduce", True), ("train", True), ("verify", False), ("bench train", False)]
)
def test_only_what_makes_runs_says_that_they_are_kept(
    command: str, kept: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _interrupted([*command.split(), "--results", "results"]) == 5
    assert ("Finished runs are kept" in capfd.readouterr().err) == kept
