"""The generated world in the place of the shipped one, to which it is equal (test_data_set.py)."""

from __future__ import annotations

import pytest

from artifact.world.generator.world import World


@pytest.fixture(scope="session")
def world() -> World:
    """The world of seed 0."""
    return World(0)
