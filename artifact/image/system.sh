#!/bin/sh
# What the image takes from Debian or Ubuntu, on any base of theirs with Python 3.11 or newer: sh system.sh
set -eu
# Triton and DeepSpeed's offloading compile small parts on first use, with Python's headers; some bases lack these.
# No versions: Debian keeps only the newest of a package, and a pinned one soon cannot be installed.
set -- g++
python3 -c "import ensurepip, sysconfig; open(sysconfig.get_paths()['include'] + '/Python.h')" 2>/dev/null \
  || set -- "$@" python3-dev python3-venv
apt-get update
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"
