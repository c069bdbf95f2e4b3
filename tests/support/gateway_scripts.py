"""What services that are scripted do with the scan of the gateway's tests, and what its consoles show."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from gateway_scans import COLUMNS, ROWS, SLICES, RawScan, Wire
from scripted_service import Conversation

from recond_gateway.mrd import writer

PIXELS = np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS)


async def all_images(conversation: Conversation) -> None:
    """An image of every slice, at the end."""
    await conversation.accept()
    await conversation.receive_all()
    await conversation.plan(SLICES, conversation.received[0].spec.model)
    for number in range(SLICES):
        await conversation.image(number, PIXELS, slice=number)
    await conversation.summary(list(range(SLICES)), ROWS, COLUMNS)


async def one_image(conversation: Conversation) -> None:
    """The first slice, and nothing more."""
    await conversation.accept()
    await conversation.plan(SLICES, "rss")
    await conversation.image(0, PIXELS, slice=0)
    await asyncio.Event().wait()


async def never(conversation: Conversation) -> None:
    """Takes everything and says nothing."""
    await conversation.accept()
    await conversation.receive_all()
    await asyncio.Event().wait()


def slices(wire: Wire) -> list[int]:
    """Slices of the images, in the order in which they came."""
    return [int(image.header["slice"]) for image in wire.images()]


def scan_id_of(wire: Wire) -> str:
    """Name of the scan, once the console has been told."""
    line = wire.wait_for(lambda: next((line for line in wire.lines() if "recond scan " in line), ""))
    return line.split("recond scan ")[1].split(":")[0]


def played(gateway: Any, scan: RawScan, config: str = "default") -> Wire:
    """A console that has seen a whole scan."""
    wire = Wire(gateway.ports[0].address)
    wire.send(writer.config_file(config), writer.header(scan.xml), scan.messages(), writer.close())
    wire.finish()
    return wire


def asking(address: str, scan_id: str) -> Wire:
    """A console that asks for the images of an earlier scan."""
    wire = Wire(address)
    wire.send(writer.config_file(f"recond-resume:{scan_id}"), writer.close())
    return wire


def sample(gateway: Any, name: str, **labels: str) -> float:
    """The value of a metric."""
    return gateway.services.metrics.registry.get_sample_value(f"recond_gateway_{name}", labels) or 0.0
