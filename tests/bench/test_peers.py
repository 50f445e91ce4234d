import pytest
import torch

from xlt.bench.peers import admit, lengths_of, padded, real_slots
from xlt.bench.shapes import random_sequences
from xlt.bench.workload import Contestant, NotRun

ONE = torch.ones(3)


def nothing() -> None:
    pass


def test_lengths_fill_the_tokens_and_are_those_of_random_sequences() -> None:
    lengths = lengths_of("squad", 5000)
    assert 5000 - 384 < sum(lengths) <= 5000
    assert [len(each.input_ids) for each in random_sequences("squad", len(lengths), "small")] == lengths


def test_padding_and_back() -> None:
    tokens = torch.arange(12.0).view(6, 2)
    laid = padded(tokens, [1, 3, 2], -1)
    assert laid.tolist()[0] == [[0, 1], [-1, -1], [-1, -1]]
    assert torch.equal(laid[real_slots([1, 3, 2], "cpu")], tokens)


def test_admitted_is_what_computes_the_same() -> None:
    assert admit("a", nothing, lambda: [ONE + 1e-6], [ONE], 1e-5) == Contestant("a", nothing)


@pytest.mark.parametrize("wrong", [ONE + 1e-4, ONE * torch.nan])
def test_what_computes_something_else_does_not_run(wrong: torch.Tensor) -> None:
    found = admit("a", nothing, lambda: [ONE, wrong], [ONE, ONE], 1e-5)
    assert isinstance(found, NotRun)
    assert found.why.startswith("computes something else: result 1 is off by")


def test_what_fails_does_not_run_and_says_why() -> None:
    def failing() -> list[torch.Tensor]:
        raise TypeError("got an unexpected keyword\nargument")

    assert admit("a", nothing, failing, [ONE], 1e-5) == NotRun("a", "got an unexpected keyword argument")
