"""Packages with plug-ins: the example, installed as people do it, and small ones that misbehave."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "recond-grappa"

LISTING = """
from recond_models.model import ModelInfo
from recond_models.plugins import Plugin

def plugin(name, implementation):
    return Plugin(ModelInfo(name, "1", "", "classical", "", False, False), implementation)
"""


def install_example(folder: Path, scratch: Path) -> None:
    """Install the example package into a folder. Without the network: its build backend is there."""
    source = scratch / "recond-grappa"
    shutil.copytree(EXAMPLE, source)  # setuptools writes beside what it builds
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*command, "--no-deps", "--no-build-isolation", "--target", folder, source], check=True)


def write_package(folder: Path, name: str, listing: str, implementation: str = "", entry: str = "PLUGIN") -> None:
    """Write an installed package with the entry point ``NAME:entry``; `listing` is its ``__init__``, on top of `LISTING`."""
    package, facts = folder / name, folder / f"{name}-1.0.dist-info"
    for new in (package, facts):
        new.mkdir(parents=True)
    (package / "__init__.py").write_text(LISTING + textwrap.dedent(listing))
    (package / "work.py").write_text(textwrap.dedent(implementation))
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[recond.reconstructors]\n{name} = {name}:{entry}\n")
