"""What pyproject.toml cannot say: a wheel carries the data of ``artifact/`` in the package, as ``xlt/_artifact``."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PROJECT = Path(__file__).parent
# What only the project itself needs: the programs that write its pages and its world, those pages, what builds it, and
# the capsule.
LEFT_OUT = shutil.ignore_patterns("capsule", "documents", "generator", "image", "__pycache__", "*.md", "*.sh")


class BuildWithArtifact(build_py):
    """Copies the data beside the modules; an editable installation finds it in the checkout."""

    def run(self) -> None:
        """Build the modules, then add the data, and CITATION.cff, which says whose they are."""
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib) / "xlt"
            shutil.copytree(PROJECT / "artifact", package / "_artifact", ignore=LEFT_OUT, dirs_exist_ok=True)
            shutil.copy(PROJECT / "CITATION.cff", package)


setup(cmdclass={"build_py": BuildWithArtifact})
