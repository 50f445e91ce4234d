"""Seeds of dropout: one draw for a forward pass, and never the same seed twice."""

from __future__ import annotations

import torch
from xlt_kernels.seeds import next_seed, seeds_of_a_pass

CPU = torch.device("cpu")


def drawn(count: int) -> list[int]:
    return [int(next_seed(CPU)) for _ in range(count)]


def test_a_pass_draws_once_and_again_only_when_its_seeds_are_used_up() -> None:
    torch.manual_seed(0)
    with seeds_of_a_pass(4):
        first = torch.get_rng_state()
        found = drawn(1)
        once = torch.get_rng_state()
        found += drawn(3)
        assert torch.equal(once, torch.get_rng_state())
        assert not torch.equal(once, first)
        found += drawn(2)
    # Not what was left of the pass before.
    with seeds_of_a_pass(4):
        found += drawn(4)
    found += drawn(2)
    assert len(set(found)) == len(found) == 12
    torch.manual_seed(0)
    with seeds_of_a_pass(4):
        assert drawn(4) == found[:4]


def test_a_pass_without_dropout_draws_nothing() -> None:
    state = torch.get_rng_state()
    with seeds_of_a_pass(4):
        pass
    assert torch.equal(state, torch.get_rng_state())
