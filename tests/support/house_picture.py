"""The picture of the house in docs/architecture.md, drawn from what imports what: ``python tests/support/house_picture.py``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import grimp

PACKAGES = (
    "recond",
    "recond_kernels",
    "recond_models",
    "recond_service",
    "recond_client",
    "recond_gateway",
    "recond_loadtest",
)
PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
_BLOCK = re.compile(r"```mermaid\n.*?```", re.DOTALL)
_NAMES = {
    "recond": "proto",
    "recond_kernels": "kernels",
    "recond_models": "models",
    "recond_client": "clients/python",
    "recond_gateway": "clients/gateway",
    "recond_loadtest": "loadtest",
}
_LEFT_OUT = {"recond_service", "recond_service.__main__"}


def rooms() -> dict[str, set[str]]:
    """Return what every room imports: packages, and in the service its folders and single files."""
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=False, cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        here = _room(module)
        there = {_room(other) for other in graph.find_modules_directly_imported_by(module)}
        found.setdefault(here, set()).update(there - {here})
    return {room: others - _LEFT_OUT for room, others in found.items() if room not in _LEFT_OUT}


def _room(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "recond_service" else parts[0]


def reduced(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Leave out imports that go without saying: of a room that one of the others imports."""
    reached: dict[str, set[str]] = {}

    def reach(room: str) -> set[str]:
        if room not in reached:
            reached[room] = set().union(*(reach(other) | {other} for other in imports[room]), set())
        return reached[room]

    return {
        room: {other for other in others if not any(other in reach(third) for third in others if third != other)}
        for room, others in imports.items()
    }


def mermaid() -> str:
    """Return the picture as a block of Markdown, without the arrows that go without saying."""
    edges = reduced(rooms())
    lines = ["```mermaid", "flowchart TD", "  subgraph service"]
    lines += [
        f"    {_identifier(room)}[{_label(room)}]" for room in sorted(edges) if room.startswith("recond_service.")
    ]
    lines += ["  end"]
    lines += [
        f"  {_identifier(room)}[{_label(room)}]" for room in sorted(edges) if not room.startswith("recond_service.")
    ]
    lines += [f"  {_identifier(room)} --> {_identifier(other)}" for room, other in _pairs(edges)]
    return "\n".join([*lines, "```"])


def _pairs(edges: dict[str, set[str]]) -> Iterable[tuple[str, str]]:
    return [(room, other) for room in sorted(edges) for other in sorted(edges[room])]


def _identifier(room: str) -> str:
    return room.replace(".", "_")


def _label(room: str) -> str:
    return _NAMES.get(room, room.rpartition(".")[2])


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_BLOCK.sub(lambda _: mermaid(), text, count=1), encoding="utf-8")
    sys.stdout.write(f"{PAGE} is up to date\n")


if __name__ == "__main__":
    main()
