"""A network of a head that `torch.export` wrote, run call by call as exported reconstructions are."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from recond_models.exported.errors import ProgramError, SignatureError
from recond_models.exported.program import Program
from recond_models.exported.signature import FoundTensor
from recond_models.exported.sizes import Size
from recond_models.heads.contract import HeadContract

_REAL = frozenset({torch.float32, torch.float16, torch.bfloat16})


class SliceTooLargeError(ValueError):
    """What the images show is larger than the program takes."""


class ExportedHeadNetwork(nn.Module):
    """A program that takes neighbouring slices and returns logits.

    Images are padded with zeros on all sides to the smallest size that the program takes, and the logits are cut back.

    Parameters
    ----------
    program
        Takes float32 (batch, slices, rows, columns) and returns logits: (batch, classes, rows, columns) for labels of pixels,
        (batch, classes) for classes of slices.
    contract
        Of the head.
    together
        Slices go to the program together, as far as it takes several; else one after another.

    Attributes
    ----------
    slices, classes
        Channels that it takes and returns.
    together
        As given.

    Raises
    ------
    SignatureError
        It takes or returns something else.
    """

    def __init__(self, program: Program, contract: HeadContract, *, together: bool = False) -> None:
        super().__init__()
        self._program = program
        self._pixels = contract.whole_volumes
        self.together = together
        found = [FoundTensor.of(program, name) for name in (*program.inputs, program.output)]
        wanted = f"float32 (batch, {contract.slices}, rows, columns)"
        if len(found) != 2 or len(found[0].sizes) != 4 or found[0].dtype != torch.float32:
            raise SignatureError(
                f"the program takes {'; '.join(map(str, found[:-1])) or 'nothing'}, but that of a head takes {wanted}"
            )
        taken, returned = found
        self._batch, channels, self._rows, self._columns = taken.sizes
        if channels.factor or channels.offset != contract.slices or self._batch.problem(1):
            raise SignatureError(
                f"the program takes {taken}, but with the {contract.slices} slices of its contract it has to take {wanted}, with a "
                "batch of 1 or a dynamic one"
            )
        form = "(batch, classes, rows, columns)" if self._pixels else "(batch, classes)"
        whole = returned.sizes[2:] if self._pixels else ()
        same = all(size.same_as(other) for size, other in zip(whole, taken.sizes[2:], strict=False))
        if (
            returned.dtype not in _REAL
            or len(returned.sizes) != (4 if self._pixels else 2)
            or not returned.sizes[0].same_as(self._batch)
            or returned.sizes[1].factor
            or not same
        ):
            raise SignatureError(
                f"the program returns {returned}, but a head for {contract.task} returns logits {form}, float32, of the sizes that "
                "it takes"
            )
        self.slices, self.classes = contract.slices, returned.sizes[1].offset

    def to_json(self) -> dict[str, Any]:
        """Return what the program takes and returns, in words, and its sizes: least, most and step of rows and columns."""
        return {
            "takes": f"float32 (batch, {self.slices}, rows, columns)",
            "returns": f"logits (batch, {self.classes}{', rows, columns' if self._pixels else ''})",
            **{
                name: [size.least, size.most, max(size.factor, 1)]
                for name, size in (("rows", self._rows), ("columns", self._columns))
            },
        }

    @property
    def takes_batches(self) -> bool:
        """Its batch may have several slices."""
        return self._batch.most > 1

    def place(self, device: torch.device) -> None:
        """Bring the weights to a device."""
        self._program.place(device)

    def forward(self, stacks: Tensor) -> Tensor:
        """Apply the program.

        Parameters
        ----------
        stacks
            float32 (batch, slices, rows, columns); they are not changed.

        Returns
        -------
        Tensor
            float32 logits (batch, classes, rows, columns) or (batch, classes).

        Raises
        ------
        SliceTooLargeError
            They have more rows or columns than the program takes.
        ProgramError
            It returns another shape than it promised.
        recond_kernels.interruption.Interrupted
            Nobody waits for them any more.
        """
        rows, columns = stacks.shape[2:]
        size = self._size(rows, columns)
        top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
        padding = (left, size[1] - columns - left, top, size[0] - rows - top)
        count = len(stacks) if self.together and not self._batch.problem(len(stacks)) else 1
        answers = []
        for part in torch.split(stacks, count):
            # A copy in any case: the program may change what it is given, and neighbouring stacks share slices.
            answer = self._program(nnf.pad(part, padding).clone(memory_format=torch.contiguous_format)).float()
            wanted = (len(part), self.classes, *(size if self._pixels else ()))
            if tuple(answer.shape) != wanted:
                raise ProgramError(f"the program returns the shape {tuple(answer.shape)}, it promised {wanted}")
            answers.append(answer[:, :, top : top + rows, left : left + columns] if self._pixels else answer)
        return torch.cat(answers)

    def _size(self, rows: int, columns: int) -> tuple[int, int]:
        """Return the smallest rows and columns that the program takes and that hold an image."""
        if self._rows.factor and self._rows.same_as(self._columns):
            rows = columns = max(rows, columns)
        found = _smallest(self._rows, rows), _smallest(self._columns, columns)
        if found[0] is None or found[1] is None:
            raise SliceTooLargeError(
                f"the head sees images of {rows} x {columns} pixels, and its program takes {self._rows.most} x "
                f"{self._columns.most} at most: export it for larger ones, or with torch.export.Dim"
            )
        return found[0], found[1]


def _smallest(size: Size, least: int) -> int | None:
    """Return the smallest value of a size that is not less than `least`; None if there is none."""
    if not size.factor:
        return size.offset if size.offset >= least else None
    wanted = max(least, size.least)
    value = size.offset + size.factor * -(-(wanted - size.offset) // size.factor)
    return value if value <= size.most else None
