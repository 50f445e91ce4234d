#!/bin/sh
# Build the wheel of xlt, install it in /opt/xlt, and list what is there then: sh artifact/image/program.sh OUT
# OUT gets the wheel and sbom.json, a bill of materials in CycloneDX's form. Runs in the folder of the sources.
set -eu
out=$1
python=/opt/xlt/bin/python
"$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$out" .
"$python" -m pip install --quiet --no-deps "$out"/xlt-*.whl
"$python" -m pip check
scratch=$(mktemp -d)
python3 -m venv "$scratch"
sh artifact/lock/install.sh "$scratch/bin/python" sbom
"$scratch/bin/cyclonedx-py" environment --pyproject pyproject.toml --mc-type application --output-reproducible \
  --output-format JSON --output-file "$out/sbom.json" "$python"
rm -rf "$scratch"
"$python" artifact/image/system_bill.py "$out/sbom.json"
