"""Small reconstructions with random weights, as `torch.export` writes them."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def image_of(kspace: Tensor) -> Tensor:
    """The plain inverse transform, centred and orthonormal."""
    axes = (-2, -1)
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace, dim=axes), norm="ortho"), dim=axes)


def kspace_of(image: Tensor) -> Tensor:
    """Its inverse."""
    axes = (-2, -1)
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(image, dim=axes), norm="ortho"), dim=axes)


def _step(channels: int) -> nn.Module:
    torch.manual_seed(7)
    body = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(8, channels, 3, padding=1))
    for parameter in body.parameters():
        parameter.data.mul_(0.2)
    return body


class Unrolled(nn.Module):
    """Two rounds with sensitivities: complex batches in, complex images out."""

    def __init__(self) -> None:
        super().__init__()
        self.step = _step(2)

    def forward(self, kspace: Tensor, mask: Tensor, maps: Tensor) -> Tensor:
        measured = kspace
        for _ in range(2):
            image = (image_of(kspace) * maps.conj()).sum(dim=1)
            parts = torch.view_as_real(image).permute(0, 3, 1, 2)
            image = torch.view_as_complex((parts + self.step(parts)).permute(0, 2, 3, 1).contiguous())
            kspace = torch.where(mask[:, None], measured, kspace_of(maps * image[:, None]))
        return image


class OneFrame(nn.Module):
    """A network on the root sum of squares of one frame; its mask is lines."""

    def __init__(self) -> None:
        super().__init__()
        self.step = _step(1)

    def forward(self, kspace: Tensor, mask: Tensor) -> Tensor:
        image = image_of(kspace * mask).abs().square().sum(dim=0).sqrt()
        return (image + self.step(image[None, None])[0, 0]).abs()


class RealParts(nn.Module):
    """fastMRI's conventions: real k-space with a last axis of 2, a mask of ones but for the lines."""

    def __init__(self) -> None:
        super().__init__()
        self.step = _step(1)

    def forward(self, kspace: Tensor, mask: Tensor) -> Tensor:
        coils = image_of(torch.view_as_complex(kspace * mask))
        image = coils.abs().square().sum(dim=1, keepdim=True).sqrt()
        return (image + self.step(image))[:, 0]


class WholeBatch(nn.Module):
    """Divides by the mean of the batch, so that a frame's image depends on the others."""

    def forward(self, kspace: Tensor, mask: Tensor) -> Tensor:
        images = image_of(kspace * mask[:, None]).abs().square().sum(dim=1).sqrt()
        return images / images.mean()


def complex_example(
    coils: int = 4, rows: int = 48, columns: int = 40, batch: int | None = None
) -> tuple[Tensor, Tensor]:
    """k-space, and a mask of rows and columns."""
    outer = () if batch is None else (batch,)
    kspace = torch.randn(*outer, coils, rows, columns, dtype=torch.complex64)
    return kspace, torch.ones(*outer, rows, columns, dtype=torch.bool)


def export(path: Path, network: nn.Module, example: tuple[Tensor, ...], dynamic: Any = None) -> Path:
    """Write a program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(network.eval(), example, dynamic_shapes=dynamic)
        torch.export.save(program, path)
    return path


def unrolled_file(path: Path) -> Path:
    """`Unrolled`, with all sizes dynamic."""
    dim = torch.export.Dim
    batch, coils = dim("batch", max=8), dim("coils", min=2, max=16)
    rows, columns = dim("rows", min=16, max=256), dim("columns", min=16, max=320)
    kspace, mask = complex_example(batch=2)
    sizes = {0: batch, 1: coils, 2: rows, 3: columns}
    dynamic = {"kspace": sizes, "mask": {0: batch, 1: rows, 2: columns}, "maps": sizes}
    return export(path, Unrolled(), (kspace, mask, kspace.clone()), dynamic)


def one_frame_file(path: Path, rows: int = 80, columns: int = 64, coils: int = 4) -> Path:
    """`OneFrame`, with fixed sizes."""
    kspace, _ = complex_example(coils, rows, columns)
    return export(path, OneFrame(), (kspace, torch.ones(1, columns)))


def rewritten(
    source: Path,
    target: Path,
    program: Callable[[dict[str, Any]], None] = lambda program: None,
    members: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """The same archive with another program, and members replaced or added."""
    new = dict(members or {})
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as archive:
        root = old.namelist()[0].split("/")[0]
        for info in old.infolist():
            name = info.filename.split("/", 1)[1]
            data = old.read(info)
            if name == "models/model.json":
                text = json.loads(data)
                program(text)
                data = json.dumps(text).encode()
            archive.writestr(info.filename, new.pop(name, data))
        for name, data in new.items():
            archive.writestr(f"{root}/{name}", data)
    return target


def saved(value: object) -> bytes:
    """What `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
