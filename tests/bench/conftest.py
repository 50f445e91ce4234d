"""Examples of known lengths."""

from __future__ import annotations

import numpy as np
import pytest

from xlt.data.packing import Encoded

LONGEST = 48


@pytest.fixture(scope="package")
def sequences() -> list[Encoded]:
    """800 labelled examples of 4 to ``LONGEST`` tokens."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(4, LONGEST + 1, size=800)
    return [
        Encoded(f"e{number}", draw.integers(5, 60, size=length).astype(np.int32), (number % 3,))
        for number, length in enumerate(lengths)
    ]
