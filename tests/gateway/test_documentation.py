"""docs/gateway.md tells of every setting, parameter and metric, and docs/errors.md of every reason."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from recond_gateway.config import PARAMETERS, LabelSettings, Listen, Pipeline, Settings
from recond_gateway.telemetry import Metrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "gateway.md").read_text()
GROUPS: dict[str, type[BaseModel]] = {"listen": Listen, "pipelines": Pipeline, "label": LabelSettings}
LABEL_TEXTS = {"label.name", "label.id", "label.vendor", "label.information", "label.version"}


def rows(heading: str) -> Iterator[list[str]]:
    """The rows of the table below a heading."""
    section = re.split(r"^##+ ", PAGE.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def settings() -> dict[str, Any]:
    """Every setting and its default."""
    found = {}
    for name, field in Settings.model_fields.items():
        group = GROUPS.get(name) or field.annotation
        assert isinstance(group, type)
        whole = group()
        found |= {f"{name}.{member}": getattr(whole, member) for member in group.model_fields}
    return found


def shown(value: Any) -> str:
    """A default as the page has it."""
    if value in ("", None, ()) or isinstance(value, BaseModel):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value >= 1 << 20:
        return f"{value >> 30} GiB" if value % (1 << 30) == 0 else f"{value >> 20} MiB"
    if isinstance(value, float | int):
        return f"{value:g}"
    return ", ".join(f"`{each}`" for each in value) if isinstance(value, tuple) else f"`{value}`"


def test_every_setting_is_there_with_its_default() -> None:
    defaults = settings()
    named = []
    for cells in rows("Settings"):
        names = re.findall(r"`([a-z_.]+)`", cells[0])
        named += names
        if not LABEL_TEXTS & set(names):
            wanted = [shown(defaults[name]) for name in names]
            assert cells[1] == ("-" if set(wanted) == {"-"} else ", ".join(wanted)), names
    assert sorted(named) == sorted(defaults)


def test_every_parameter_and_its_choices_are_there() -> None:
    named = {}
    for cells in rows("Parameters"):
        named |= dict.fromkeys(re.findall(r"`(\w+)`", cells[0]), cells[1])
    assert sorted(named) == sorted(parameter.name for parameter in PARAMETERS)
    for parameter in PARAMETERS:
        if parameter.kind == "choice":
            assert re.findall(r"`(\w+)`", named[parameter.name]) == [name for name, _ in parameter.choices]


def test_every_metric_is_there_with_its_labels() -> None:
    named = {}
    for cells in rows("Metrics"):
        name, labels = re.fullmatch(r"`(\w+)(?:\{([\w,]+)\})?`", cells[0]).groups()  # type: ignore[union-attr]
        named[name.removesuffix("_total")] = (cells[1], set((labels or "").split(",")) - {""})
    metrics = Metrics()
    labels = {
        metric._name: set(metric._labelnames)  # type: ignore[attr-defined]
        for metric in vars(metrics).values()
        if hasattr(metric, "_labelnames")
    }
    families = {family.name: family.type for family in metrics.registry.collect()}
    assert {name: kind for name, (kind, _) in named.items()} == families
    assert {name: told for name, (_, told) in named.items()} == {
        name: known - {"device"} for name, known in labels.items()
    }


def test_every_attribute_is_told() -> None:
    code = (ROOT / "clients" / "gateway" / "recond_gateway" / "scan" / "images.py").read_text()
    named = set(
        re.findall(r'"(Recond\w+|Image[A-Z]\w+|Window\w+|Rescale\w+|\w+Time|DataRole|\w*Geometry\w*|Keep\w+)"', code)
    )
    assert len(named) > 15
    section = PAGE.split("## What comes back", 1)[1].split("## ", 1)[0]
    assert named - set(re.findall(r"`(\w+)`", section)) == set()


def reasons() -> set[str]:
    """The reasons that code of the gateway gives: by keyword, as an attribute of a class, or first to a ProtocolError."""
    found = set()
    for path in (ROOT / "clients" / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            value: ast.expr | None = None
            if isinstance(node, ast.keyword) and node.arg == "reason":
                value = node.value
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                value = node.value if isinstance(target, ast.Name) and target.id == "_reason" else None
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                value = node.args[0] if node.func.id in {"ProtocolError", "_refused"} else None
            if isinstance(value, ast.Constant) and re.fullmatch(r"[A-Z][A-Z0-9_]+", str(value.value)):
                found.add(str(value.value))
    return found


def test_every_reason_is_told() -> None:
    found = reasons()
    assert len(found) > 30
    table = (ROOT / "docs" / "errors.md").read_text().split("## Reasons", 1)[1]
    assert found - set(re.findall(r"`([A-Z][A-Z0-9_]+)`", table)) == set()


def test_the_example_is_a_configuration() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    settings = Settings.model_validate(tomllib.loads(example))
    assert set(settings.pipelines) == {"default", "knee"}
