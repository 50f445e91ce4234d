"""What a worker says, as the process that started it hears it."""

from __future__ import annotations

import os
import subprocess
import sys


def test_an_event_is_one_write_that_no_other_process_can_break() -> None:
    # In such a pipe every write is a packet of its own. DeepSpeed's launcher starts its processes with -u.
    reader, writer = os.pipe2(os.O_DIRECT)
    code = "from xlt.pipeline.worker import _say; _say(event='cell', cell=['xnli', 'test', 'sw'])"
    subprocess.run([sys.executable, "-u", "-c", code], stdout=writer, check=True)
    os.close(writer)
    packets = []
    while packet := os.read(reader, 65536):
        packets.append(packet.decode())
    os.close(reader)
    assert packets == ['xlt-event {"event": "cell", "cell": ["xnli", "test", "sw"]}\n']
