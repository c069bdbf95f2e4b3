"""Cards of models that are added: what is known about them, for people."""

from __future__ import annotations

from recond_models.contract import Contract
from recond_models.heads.contract import HeadContract
from recond_models.store.architecture import Recognised, named
from recond_models.store.trial import Tried
from recond_models.store.weights import WeightFile


def card_of_weights(
    name: str, file_name: str, file: WeightFile, recognised: Recognised, contract: Contract, licence: str
) -> str:
    """Return the card of weights of a known network, as Markdown."""
    lines = [
        f"# {name}",
        "",
        f"- Network: {named(recognised.architecture)}",
        f"- File: `{file_name}`, {file.size} bytes, SHA-256 `{file.sha256}`",
        f"- Licence of the weights: {licence or 'not stated'}",
        f"- Trained on: {_trained_on(contract)}",
        f"- Acceleration: {'{:g} to {:g}'.format(*contract.acceleration) if contract.acceleration else 'not stated'}",
        "",
        "Added on this machine. recond knows its arithmetic, not its training: compare its images with those of a classical",
        "model before trusting them.",
    ]
    return "\n".join(lines) + "\n"


def card_of_program(name: str, file_name: str, sha256: str, tried: Tried, licence: str) -> str:
    """Return the card of an exported program, as Markdown."""
    facts, contract = tried.architecture, tried.contract
    sizes = ((axis, getattr(contract, axis)) for axis in ("coils", "rows", "columns"))
    maps = f", maps {facts['maps']}" if facts["maps"] else ""
    lines = [
        f"# {name}",
        "",
        f"- Program of torch.export ({facts['torch']}), {tried.parameters} weights",
        f"- Takes: k-space {facts['kspace']}, mask {facts['mask']}{maps}",
        f"- Returns: {facts['image']}",
        *(f"- {axis.capitalize()}: {limits[0]:g} to {limits[1]:g}" for axis, limits in sizes if limits),
        f"- File: `{file_name}`, SHA-256 `{sha256}`",
        f"- Licence of the weights: {licence or 'not stated'}",
        f"- Trained on: {_trained_on(contract)}",
        "",
        "Added on this machine. recond runs what the program says, and knows nothing of its training: compare its images with",
        "those of a classical model before trusting them.",
    ]
    return "\n".join(lines) + "\n"


def card_of_head_program(name: str, head: HeadContract, sha256: str, tried: Tried, licence: str, brought: str) -> str:
    """Return the card of an exported head, as Markdown: what was found out, and behind it the card that it brought."""
    facts = tried.architecture
    groups = (f"{group.name}: {', '.join(group.names)}" for group in head.groups)
    lines = [
        f"# {name}",
        "",
        f"- Head for {head.task}, program of torch.export ({facts['torch']}), {tried.parameters} weights",
        f"- Takes: {facts['takes']}",
        f"- Returns: {facts['returns']}",
        *(
            f"- {axis.capitalize()}: {facts[axis][0]} to {facts[axis][1]}, step {facts[axis][2]}"
            for axis in ("rows", "columns")
        ),
        *(f"- Tells {group}" for group in groups),
        f"- File: `program.pt2`, SHA-256 `{sha256}`",
        f"- Licence of the weights: {licence or 'not stated'}",
        f"- Made for: {head.anatomy or 'any anatomy'}, {', '.join(head.contrasts) or 'any contrast'}",
        "",
        "Added on this machine. recond runs what the program says, and knows nothing of its training: compare its answers with",
        "those of people before trusting them.",
        *(("", brought.strip()) if brought.strip() else ()),
    ]
    return "\n".join(lines) + "\n"


def _trained_on(contract: Contract) -> str:
    return ", ".join(text for text in (contract.anatomy, contract.contrast) if text) or "not stated"
