"""Build the CPU image without a Docker engine, and try in it what the README says of it.

make image-check                        # as root; with the whole smoke tier
make image-check ARGS=--short           # with a tier of a few steps in its place
make image-check BASE=NAME              # on that image instead of a Debian bootstrapped here

What the build needs of this machine alone, such as /etc/pip.conf or certificates, is mounted read-only while it
runs: export XLT_BUILD_MOUNTS="HOST:CONTAINER HOST:CONTAINER".
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.soak import SHORT

PROJECT = Path(__file__).parent.parent.parent
WORK = PROJECT / "build" / "image-check"
IMAGE, BOOTSTRAPPED = "localhost/xlt:cpu", "localhost/xlt-base"
DEBIAN = ("debootstrap", "--variant=minbase", "--include=ca-certificates,python3", "bookworm")
# As strict as a container can be: no network, a user without a name, and nothing that can be written but the volume.
STRICT = ("--read-only", "--read-only-tmpfs=false", "--network=none", "--user=4321:4321")
# podman asks for more than a sandboxed root may give.
LIMITS = ("--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096")
GRACE = 60
INCOMPLETE = 5


class Failure(Exception):
    """A check that did not pass, in words."""


class Containers:
    """buildah and podman on a storage of their own, so that nothing else on the machine is seen or touched."""

    def __init__(self, driver: str, mounts: list[str]) -> None:
        places = ["--root", str(WORK / "storage"), "--runroot", str(WORK / "run"), "--storage-driver", driver]
        self.buildah = ["buildah", *places]
        self.podman = ["podman", *places, "--cgroup-manager=cgroupfs", "--runtime=runc"]
        self._mounts = [f"--volume={mount}" for mount in mounts]

    def run(self, *arguments: str, options: tuple[str, ...] = (), expected: int = 0) -> str:
        """What `docker run IMAGE ARGUMENTS` prints on standard output; its standard error goes to the screen."""
        command = [*self.podman, "run", "--rm", *STRICT, *LIMITS, *self._mounts, *options, IMAGE, *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode != expected:
            raise Failure(f"xlt {' '.join(arguments)}: exit code {done.returncode}, expected {expected}\n{done.stdout}")
        return done.stdout

    def start(self, *arguments: str) -> str:
        """Start the image in the background; the container's name."""
        return tell([*self.podman, "run", "--detach", *STRICT, *LIMITS, *self._mounts, IMAGE, *arguments]).strip()

    def inspect(self, what: str, template: str) -> str:
        """A detail of an image or a container."""
        return tell([*self.podman, "inspect", "--format", template, what]).strip()


def tell(command: list[str], *, shown: bool = False) -> str:
    """What a command prints, or nothing where that is ``shown`` on the screen, as its errors are.

    Raises:
        Failure: it failed.
    """
    done = subprocess.run(command, stdout=None if shown else subprocess.PIPE, text=True, cwd=PROJECT)
    if done.returncode:
        raise Failure(f"exit code {done.returncode}: {' '.join(command)}")
    return done.stdout or ""


class Check:
    """One build and what is tried in it; ``lines`` are what was found."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.lines = given, [""]
        mounts, self._tier = ["xlt-data:/data"], []
        if given.short:
            (WORK / "short.toml").write_text(SHORT, "utf-8")
            mounts.append(f"{WORK / 'short.toml'}:/short.toml:ro")
            self._tier = ["--tier", "/short.toml", "--limit", "40"]
        self._containers = Containers(given.storage, mounts)

    def note(self, what: str, begun: float | None = None) -> None:
        """Say a result now, and again at the end."""
        line = what if begun is None else f"{what}: {time.monotonic() - begun:.0f} s"
        print(f"== {line}", flush=True)
        self.lines.append(line)

    def make_base(self) -> str:
        """The image to build on: the one that was named, or a Debian made here."""
        if self.given.base:
            return str(self.given.base)
        begun, buildah = time.monotonic(), self._containers.buildah
        if subprocess.run([*self._containers.podman, "image", "exists", BOOTSTRAPPED]).returncode == 0:
            return BOOTSTRAPPED  # of an earlier check with --keep, whose layers serve again
        rootfs = (self.given.rootfs or WORK / "rootfs").absolute()
        if not (rootfs / "usr" / "bin" / "python3").exists():
            tell([*DEBIAN, str(rootfs)], shown=True)
            self.note("Debian bootstrapped", begun)
        container = tell([*buildah, "from", "scratch"]).strip()
        tell([*buildah, "copy", "--quiet", container, str(rootfs), "/"])
        tell([*buildah, "commit", "--quiet", "--rm", container, BOOTSTRAPPED])
        return BOOTSTRAPPED

    def build(self, base: str) -> None:
        """Build the image by `make image-cpu`, with buildah in the place of docker."""
        begun = time.monotonic()
        mounts = [f"--volume={mount}:ro" for mount in os.environ.get("XLT_BUILD_MOUNTS", "").split()]
        options = " ".join(["--isolation=chroot", "--layers", "--format=docker", *mounts])
        # `env`: an outer make hands its own ARGS on.
        make = ["env", "--unset=MAKEFLAGS", "--unset=MFLAGS", "make", "image-cpu", f"BASE={base}", f"ARGS={options}"]
        tell([*make, f"DOCKER={' '.join(self._containers.buildah)}"], shown=True)
        self.note("image built", begun)
        size, layers = self._containers.inspect(IMAGE, "{{.Size}} {{len .RootFS.Layers}}").split()
        self.note(f"size: {int(size) / 1e9:.2f} GB in {layers} layers")

    def check_contents(self) -> None:
        """The first screen, labels, the bill of materials, and that a user cannot change the program."""
        screen = self._containers.run()
        line = "docker run -v xlt-data:/data xlt:cpu"
        if absent := [name for name in ("doctor", "reproduce", "verify") if f"  {line} {name}\n" not in screen]:
            raise Failure(f"The first screen does not name {', '.join(absent)}:\n{screen}")
        labels = json.loads(self._containers.inspect(IMAGE, "{{json .Config.Labels}}"))
        named = {name.removeprefix("org.opencontainers.image.") for name, value in labels.items() if value}
        if lacking_labels := {"title", "description", "licenses", "revision", "version", "created"} - named:
            raise Failure(f"The image has no label {', '.join(sorted(lacking_labels))}.")
        bill = json.loads(self._containers.run("/opt/xlt/sbom.json", options=("--entrypoint=cat",)))
        listed: dict[str, dict[str, str]] = {"pypi": {}, "deb": {}}
        for component in bill["components"]:
            kind = component.get("purl", "").partition("/")[0].removeprefix("pkg:")
            if kind in listed:
                listed[kind][component["name"].lower().replace("_", "-")] = component["version"]
        lock = (PROJECT / "artifact" / "lock" / "cpu.lock").read_text("utf-8")
        locked = dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))
        if wrong := {name: listed["pypi"].get(name) for name in locked if listed["pypi"].get(name) != locked[name]}:
            raise Failure(f"The bill of materials differs from cpu.lock: {wrong}")
        torch = self._containers.run("-c", "import torch; print(torch.__version__)", options=("--entrypoint=python",))
        query = ("--show", "--showformat=${db:Status-Abbrev}\t${Package}\t${Version}\n")
        known = self._containers.run(*query, options=("--entrypoint=dpkg-query",)).splitlines()
        installed = dict(line.split("\t")[1:] for line in known if line.startswith("ii"))
        if installed != listed["deb"]:
            raise Failure("The bill of materials differs from what dpkg lists.")
        counts = f"{len(listed['pypi'])} packages of Python and {len(installed)} of the system"
        self.note(f"bill of materials: {counts}; torch {torch.strip()}")
        program = "import os, xlt; print(os.access(os.path.dirname(xlt.__file__), os.W_OK))"
        if "True" in self._containers.run("-c", program, options=("--entrypoint=python", "--read-only=false")):
            raise Failure("A user of the image can change its program.")
        self._containers.run("doctor")

    def check_stop(self) -> None:
        """`docker stop` while the first training goes on: exit code 5 within the grace."""
        containers = self._containers
        container = containers.start("reproduce", *self._tier)
        deadline = time.monotonic() + 600
        begun_to_train = "[1/" if self.given.short else ": step "
        while begun_to_train not in (log := _logs(containers, container)):
            if time.monotonic() > deadline or containers.inspect(container, "{{.State.Running}}") != "true":
                raise Failure(f"No training began:\n{log}")
            time.sleep(0.5)
        begun = time.monotonic()
        tell([*containers.podman, "stop", "--time", str(GRACE), container])
        code = containers.inspect(container, "{{.State.ExitCode}}")
        if code != str(INCOMPLETE):
            raise Failure(f"Stopped, it ended with {code}:\n{_logs(containers, container)}")
        self.note(f"docker stop --time {GRACE} ended a training with exit code {code}", begun)
        tell([*containers.podman, "rm", container])

    def check_tier(self) -> None:
        """The same command resumes and completes; then `verify`, and the report out of the volume."""
        begun = time.monotonic()
        print(self._containers.run("reproduce", *self._tier))
        self.note("reproduce, from where it was stopped", begun)
        begun = time.monotonic()
        # Of a tier that nobody recorded nothing is judged.
        found = json.loads(self._containers.run("verify", "--json", expected=INCOMPLETE if self.given.short else 0))
        self.note(f"verify, result_hash {found['result_hash'][:8]}", begun)
        archive = ("--entrypoint=tar", "--workdir=/data/results")
        if "index.html" not in self._containers.run("-cf", "/dev/null", "-v", "report", options=archive):
            raise Failure("There is no report in the volume.")

    def remove(self) -> None:
        """Remove all containers, images and volumes of this check, and nothing else of the machine's."""
        subprocess.run([*self._containers.podman, "rm", "--all", "--force"], capture_output=True)
        subprocess.run([*self._containers.buildah, "rm", "--all"], capture_output=True)
        mounted = (line.split()[1] for line in Path("/proc/mounts").read_text("utf-8").splitlines())
        for place in sorted((place for place in mounted if Path(place).is_relative_to(WORK)), reverse=True):
            subprocess.run(["umount", place], check=False)
        shutil.rmtree(WORK)


def _logs(containers: Containers, container: str) -> str:
    done = subprocess.run([*containers.podman, "logs", container], capture_output=True, text=True)
    return done.stdout + done.stderr


def lacking(given: argparse.Namespace) -> str:
    """What this machine lacks for the check and how to get it; empty where nothing is lacking."""
    if os.geteuid():
        return "It has to be started by root, or inside of `unshare --map-root-user --mount`."
    tools = ["buildah", "podman", "runc", *([] if given.base or given.rootfs else ["debootstrap"])]
    absent = [tool for tool in tools if not shutil.which(tool)]
    return f"{', '.join(absent)} not found. On Debian or Ubuntu: apt-get install {' '.join(absent)}" if absent else ""


def main() -> None:
    """Build, try, print what was measured, and remove all of it; exit code 1 where something was not as promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a tier of a few steps in the place of smoke")
    parser.add_argument("--base", metavar="IMAGE", help="build on this image")
    parser.add_argument("--rootfs", type=Path, metavar="DIR", help="a bootstrapped Debian; made there if absent")
    parser.add_argument("--storage", default="overlay", metavar="DRIVER", help="vfs is slow and works everywhere")
    parser.add_argument("--keep", action="store_true", help="leave the image in build/image-check")
    given = parser.parse_args()
    if reason := lacking(given):
        sys.exit(reason)
    WORK.mkdir(parents=True, exist_ok=True)
    check = Check(given)
    try:
        check.build(check.make_base())
        check.check_contents()
        check.check_stop()
        check.check_tier()
    except Failure as failure:
        sys.exit(f"FAILED: {failure}")
    finally:
        print("\n  ".join(check.lines))
        if not given.keep:
            check.remove()


if __name__ == "__main__":
    main()
