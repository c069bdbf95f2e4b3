"""The table of the profile in docs/privacy.md, made from the code: ``python tests/support/profile_table.py`` writes it."""

from __future__ import annotations

import re
from pathlib import Path

from recond_client.privacy.profile import Action, Area, Rule
from recond_client.privacy.recond_mrd_1 import RECOND_MRD_1

PAGE = Path(__file__).parents[2] / "docs" / "privacy.md"
BEGIN, END = "<!-- table of the profile: begin -->", "<!-- table of the profile: end -->"


def markdown() -> str:
    """The table; what stays as it is in the XML header is one row for each parent."""
    lines = ["| Where | Place | Action | Notes |", "|---|---|---|---|"]
    merged: dict[tuple[Area, str, str, str], list[str]] = {}
    for rule in RECOND_MRD_1.rules:
        parent, _, name = rule.place.rpartition(".")
        if rule.area is not Area.HEADER:
            parent, name = "", rule.place
        merged.setdefault((rule.area, parent, rule.action.letter, _notes(rule)), []).append(name)
    limits = [key for key in merged if key[1].startswith("encoding.encodingLimits.")]
    for key in limits[1:]:
        del merged[key]
    for (area, parent, letter, notes), names in merged.items():
        place = "encoding.encodingLimits.*" if parent.startswith("encoding.encodingLimits.") else parent
        shown = ", ".join(f"`{name}`" if not name.startswith("(") else name for name in names)
        within = f"`{place}`: " if place else ""
        lines.append(f"| {area.value} | {within}{shown} | {letter} | {notes} |")
    return "\n".join(lines)


def _notes(rule: Rule) -> str:
    said = []
    if rule.values is not None and rule.action in {Action.CLEAN, Action.KEEP}:
        said.append(rule.values.said)
    if rule.names is not None:
        said[-1:] = [f"{said[-1]} named " + ", ".join(f"`{name}`" for name in sorted(rule.names))]
    elif rule.why:
        said.append(rule.why)
    return "; ".join(said)


def main() -> None:
    """Write the table into the page."""
    text = PAGE.read_text(encoding="utf-8")
    table = f"{BEGIN}\n{markdown()}\n{END}"
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: table, text, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
