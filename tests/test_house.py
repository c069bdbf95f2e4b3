"""Rules of the house that no single room can test."""

from __future__ import annotations

import graphlib
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_imports_point_one_way() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    if not tool.exists():
        pytest.skip("import-linter is not installed")
    result = subprocess.run([tool], capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    "package",
    ["recond_kernels", "recond_models", "recond_service", "recond_client", "recond_gateway", "recond_loadtest"],
)
def test_no_circle_of_imports(package: str) -> None:
    """Imports for type checkers count: what needs another module's types depends on it."""
    grimp = pytest.importorskip("grimp")
    graph = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert sum(map(len, imports.values())) > 10
    order = list(graphlib.TopologicalSorter(imports).static_order())  # raises CycleError, which names the circle
    assert set(order) == graph.modules


def test_the_picture_of_the_house_is_true() -> None:
    pytest.importorskip("grimp")
    import house_picture

    picture = house_picture.mermaid()
    assert picture.count("-->") > 20
    assert picture in house_picture.PAGE.read_text(encoding="utf-8"), "run python tests/support/house_picture.py"


def test_sdk_stays_light() -> None:
    heavy = {
        "torch",
        "scipy",
        "sigpy",
        "nibabel",
        "PIL",
        "pydantic",
        "recond_service",
        "recond_models",
        "recond_kernels",
    }
    later = {"h5py", "ismrmrd", "click", "rich"}
    loaded = python("import recond_client, sys; print(*sys.modules)").split()
    assert not (heavy | later) & set(loaded)


def test_help_loads_no_server() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from recond_client.cli import main;"
        "assert 'serve' in CliRunner().invoke(main, ['--help']).output; print(*sys.modules)"
    )
    assert not {"torch", "scipy", "recond_service", "recond_models"} & set(python(code).split())


def test_one_version() -> None:
    version = importlib.metadata.version("recond")
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


@pytest.mark.parametrize(
    "folder", ["proto/recond", "kernels", "models", "service", "clients", "loadtest", "tests", "examples"]
)
def test_modules_stay_short(folder: str) -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in (ROOT / folder).rglob("*.py")
        if "_pb2" not in path.name and (count := len(path.read_text().splitlines())) > 500
    }
    assert not long


def test_links_of_the_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.relative_to(ROOT)} links to {target}"


def test_documented_reasons_and_settings_exist() -> None:
    from recond_service.config import Settings

    code = "\n".join(
        path.read_text() for folder in ("service", "clients", "models") for path in (ROOT / folder).rglob("*.py")
    )
    table = (ROOT / "docs" / "errors.md").read_text().split("## Reasons", 1)[1]
    unknown = [reason for reason in re.findall(r"`([A-Z][A-Z0-9_]+)`", table) if f'"{reason}"' not in code]
    assert not unknown
    settings = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "service.md").read_text(), re.MULTILINE)
    assert sorted(name for name in settings if not name.startswith("recond_")) == sorted(
        name for _, name, _ in Settings.fields()
    )
