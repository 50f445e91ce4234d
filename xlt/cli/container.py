"""In the container image: how it is started, and whether what is written there outlives the container."""

from __future__ import annotations

import os
import re
from pathlib import Path

# How Docker and Podman name a volume that nobody asked for: the image's VOLUME made it.
ANONYMOUS = re.compile(r"/volumes/[0-9a-f]{64}/_data$")


def invocation() -> str:
    """What a user types in the place of ``xlt``: in the image, which names its volume and variant, a line of docker."""
    volume, variant = os.environ.get("XLT_VOLUME"), os.environ.get("XLT_VARIANT")
    if not volume or not variant:
        return "xlt"
    return f"docker run {'--gpus all ' if variant == 'gpu' else ''}-v xlt-data:{volume} xlt:{variant}"


def volume_warning(mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """A warning if the image runs without a mounted folder for its results, or with one that this user cannot write to.

    Empty otherwise, and outside the image, which alone names its volume in ``XLT_VOLUME``.
    """
    volume = os.environ.get("XLT_VOLUME")
    if not volume:
        return ""
    # A folder of results that is mounted below the volume is kept, whatever lies at the volume itself.
    results = Path(os.environ.get("XLT_RESULTS") or volume)
    if not outlives_container(results, mountinfo.read_text("utf-8")):
        return (
            f"Warning: nothing is mounted at {volume}: results written there are lost with this container. "
            f"To keep them: docker run -v xlt-data:{volume} ...\n"
        )
    place = results if results.is_dir() else Path(volume)
    if not os.access(place, os.W_OK):
        return (
            f"Warning: user {os.getuid()} cannot write what is mounted at {place}. Give docker run the option "
            f"--user $(id -u):$(id -g), or use a named volume: -v xlt-data:{volume}\n"
        )
    return ""


def outlives_container(folder: Path, mountinfo: str) -> bool:
    """Whether ``folder`` lies on a named volume or a bind mount, going by ``mountinfo`` in the form of proc(5)."""
    sources = {Path(point): source for source, point in (line.split()[3:5] for line in mountinfo.splitlines())}
    point = next((place for place in (folder, *folder.parents) if place in sources), Path("/"))
    return point != Path("/") and not ANONYMOUS.search(sources[point])
