"""Small heads that `torch.export` wrote, in folders as `recond models add` takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from exported_programs import export
from torch import Tensor, nn

from recond_models.heads.contract import HeadContract


class Labels(nn.Module):
    """Labels pixels by the brightness of the middle slice: class k has the logit 40 k (x - 0.3 k). Two levels, as a U-Net has."""

    def __init__(self, slices: int, classes: int) -> None:
        super().__init__()
        self.middle = slices // 2
        self.register_buffer("ranks", torch.arange(classes, dtype=torch.float32))
        self.down = nn.Conv2d(slices, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, classes, 2, stride=2)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, stacks: Tensor) -> Tensor:
        bright = stacks[:, self.middle, None]
        ranks = self.ranks[:, None, None]
        return 40 * ranks * (bright - 0.3 * ranks) + self.up(torch.relu(self.down(stacks)))


class Classes(nn.Module):
    """Classifies a slice by its mean brightness; several groups lie one after another."""

    def __init__(self, slices: int, outputs: int) -> None:
        super().__init__()
        self.last = nn.Linear(slices, outputs)
        with torch.no_grad():
            self.last.weight.copy_(torch.arange(outputs, dtype=torch.float32)[:, None].expand(-1, slices))

    def forward(self, stacks: Tensor) -> Tensor:
        return self.last(stacks.mean(dim=(2, 3)))


class Shifted(Labels):
    """Logits that are not finite."""

    def forward(self, stacks: Tensor) -> Tensor:
        return super().forward(stacks) / 0.0 * 0.0


class Changing(Labels):
    """Changes what it is given."""

    def forward(self, stacks: Tensor) -> Tensor:
        answer = super().forward(stacks)
        stacks.mul_(0.0)
        return answer


class Drawing(Labels):
    """Draws random numbers, which is not on the list of operators."""

    def forward(self, stacks: Tensor) -> Tensor:
        return super().forward(stacks) + torch.rand_like(stacks[:, :1])


def dynamic_sizes(step: int = 32, most: int = 640) -> dict[int, Any]:
    """Rows and columns that are multiples of a step, and any batch."""
    rows, columns = (torch.export.Dim(name, min=1, max=most // step) for name in ("rows", "columns"))
    return {0: torch.export.Dim("batch", min=1, max=64), 2: step * rows, 3: step * columns}


def write_bundle(
    folder: Path,
    network: nn.Module,
    contract: HeadContract,
    size: tuple[int, int] | None = None,
    **fields: Any,
) -> Path:
    """Write a folder with program.pt2, with fixed sizes or dynamic ones, and a manifest."""
    folder.mkdir(parents=True)
    example = torch.rand(1 if size else 2, contract.slices, *(size or (64, 96)))
    export(folder / "program.pt2", network, (example,), None if size else {"stacks": dynamic_sizes()})
    (folder / "manifest.json").write_text(json.dumps({"head": contract.to_json(), **fields}))
    return folder
