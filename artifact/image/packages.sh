#!/bin/sh
# Make the environment /opt/xlt of the locked packages: sh artifact/image/packages.sh cpu|gpu
set -eu
python3 -m venv /opt/xlt
# Else DeepSpeed compiles this operator at its first start without a GPU. One build serves every x86-64 processor: it
# chooses its instructions when it runs.
DS_BUILD_SHM_COMM=1 sh artifact/lock/install.sh /opt/xlt/bin/python "$1"
chmod -R a+rX,go-w /opt/xlt
