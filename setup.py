"""Beside pyproject.toml: a wheel takes the recipes along, as dactcli/bundled."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Copies recipes/ into the package; an editable install reads them where they are."""

    def run(self) -> None:
        """Build, and copy."""
        super().run()
        if not self.editable_mode:
            shutil.copytree("recipes", Path(self.build_lib) / "dactcli" / "bundled", dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithRecipes})
