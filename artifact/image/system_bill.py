"""Add the operating system, its packages and the Python to a bill of materials: python system_bill.py SBOM.json

CycloneDX's own tool lists what pip installed; dpkg knows what the base image and system.sh brought.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

QUERY = ("dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n")


def components(listed: str, release: dict[str, str], python: str) -> list[dict[str, Any]]:
    """The components for what ``QUERY`` prints, sorted by name, after the system and the Python.

    Args:
        listed: One line for each package that dpkg knows; those that are not installed are left out.
        release: What /etc/os-release says.
        python: The version of the interpreter.
    """
    system = {"type": "operating-system", "name": release["ID"], "version": release.get("VERSION_ID", "")}
    interpreter = {"type": "platform", "name": "cpython", "version": python}
    distribution = quote(f"{release['ID']}-{release.get('VERSION_ID', '')}".rstrip("-"), safe="")
    packages = []
    for line in sorted(listed.splitlines()):
        status, name, version, architecture = line.split("\t")
        if status.startswith("ii"):
            # The type deb of the package URL specification, which writes the colon of an epoch as it is.
            purl = f"pkg:deb/{release['ID']}/{quote(name, safe='')}@{quote(version, safe=':')}"
            purl += f"?arch={architecture}&distro={distribution}"
            packages.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
    for component in (system, interpreter):
        component["bom-ref"] = f"{component['name']}@{component['version']}"
    return [system, interpreter, *packages]


def main() -> None:
    """Change the file in its place."""
    path = Path(sys.argv[1])
    bill = json.loads(path.read_text("utf-8"))
    listed = subprocess.run(QUERY, check=True, capture_output=True, text=True).stdout
    bill["components"] += components(listed, platform.freedesktop_os_release(), platform.python_version())
    path.write_text(json.dumps(bill, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
