#!/bin/sh
# Install locked packages, every file checked by its hash, into the environment of a Python:
#   sh artifact/lock/install.sh PYTHON cpu|gpu|dev|sbom
# `make install`, the Dockerfile and the Apptainer definition run it.
set -eu
python=$1
what=$2
locks=$(dirname "$0")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

pip_install() {
  "$python" -m pip --disable-pip-version-check --quiet install "$@"
}

# deepspeed and seqeval are published as source only: they are built with what build.lock holds, not with what pip
# would fetch, and deepspeed without its operators (they compile on first use), so that it asks for no nvcc.
export DS_ACCELERATOR=cpu DS_BUILD_OPS=0
locked() {
  pip_install --no-deps --require-hashes --no-build-isolation --use-pep517 -r "$1"
}

# The packages of a lock whose first line an expression of awk is true of.
part_of() {
  awk "/^[a-z]/ { keep = $2 } keep" "$locks/$1.lock" >"$scratch/part.lock"
  locked "$scratch/part.lock"
}

# pip takes the CPU build where one of its sources has it, else the CUDA build, which needs NVIDIA's libraries to start.
torch_without_gpu() {
  pinned=$(sed -n 's/^\(torch==[0-9.]*\).*/\1/p' "$locks/torch-cpu.lock")
  pip_install --dry-run --no-deps --ignore-installed --report "$scratch/choice.json" "$pinned"
  read_version='import json, sys; print(json.load(open(sys.argv[1]))["install"][0]["metadata"]["version"])'
  case $("$python" -c "$read_version" "$scratch/choice.json") in
    *+cpu)
      echo "$pinned: its CPU build, 0.2 GB to download"
      locked "$locks/torch-cpu.lock"
      ;;
    *)
      echo "$pinned: its CUDA build, 2.7 GB to download, since pip knows no CPU build (README.md, \"Two commands\")"
      part_of gpu '/^(torch|triton|cuda-|nvidia-)/ && !/-cu12==/'
      ;;
  esac
}

case $what in
  cpu | gpu)
    locked "$locks/build.lock"
    [ "$what" = gpu ] || torch_without_gpu
    # DeepSpeed comes last: where it is built with operators, it asks for all that torch needs.
    part_of "$what" '!/^deepspeed==/'
    ;;
esac
locked "$locks/$what.lock"
