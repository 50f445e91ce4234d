"""Being asked to end: a training writes its state first."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class StopRequest:
    """Whether this process was asked to end, by SIGTERM or Ctrl-C.

    Inside ``heard()`` the first request is only noted: what runs there looks for it and ends when its state is written.
    A second one, or one anywhere else, ends the process at once, with ``KeyboardInterrupt``.
    """

    def __init__(self) -> None:
        self.asked = False
        self._heard = False

    def receive(self, *_: object) -> None:
        """What a signal does."""
        if self.asked or not self._heard:
            raise KeyboardInterrupt
        self.asked = True
        # Not print(): a signal may come while the same stream is being written.
        os.write(2, b"\nStopping after this step, with its state written; once more stops at once.\n")

    @contextmanager
    def heard(self) -> Iterator[None]:
        """A block that looks for requests itself; one that it did not see ends the process after it.

        So does one after which the block failed: the same signal may have ended a compiler that it waited for.
        """
        self._heard = True
        try:
            yield
        finally:
            self._heard = False
            if self.asked:
                raise KeyboardInterrupt


stop_request = StopRequest()


ASKING = (signal.SIGTERM, signal.SIGINT)


def hear_signals() -> None:
    """Have SIGTERM and Ctrl-C ask this process to end."""
    for number in ASKING:
        signal.signal(number, stop_request.receive)


def default_signals() -> None:
    """Have them end this process at once."""
    for number in ASKING:
        signal.signal(number, signal.SIG_DFL)
