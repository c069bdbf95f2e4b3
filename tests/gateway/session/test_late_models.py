"""Models that are late, refused or gone, and the classical ones that take their place."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest
from gateway_scans import COLUMNS, ROWS, SLICES, Wire
from gateway_scripts import PIXELS, all_images, never, played, slices
from scripted_service import Conversation, reason, request_info

from recond.v1 import reconstruction_pb2 as pb
from recond_gateway.mrd import writer

LATE = {"default": {"model": "network", "fallback": ["cg-sense"], "slice_deadline": 0.3}}


def refused(code: grpc.StatusCode = grpc.StatusCode.FAILED_PRECONDITION, why: str = "NO_MODEL"):
    async def script(conversation: Conversation) -> None:
        await conversation.accept()
        await conversation.abort(code, "not this scan", reason(why), request_info("r-1"))

    return script


@pytest.mark.timeout(60)
def test_images_of_the_classical_model_go_out_while_it_waits_for_the_scanner(scripted, start_gateway, scan):
    """It has made an image before that is overdue, and then the scanner pauses."""

    async def at_once(conversation: Conversation) -> None:
        await conversation.accept()
        await conversation.plan(SLICES, "cg-sense")
        sent, seen = 0, 0
        while (message := await conversation.receive()) is not None:
            seen += message.acquisitions.count
            while sent < SLICES and seen >= (sent + 1) * COLUMNS:
                await conversation.image(sent, PIXELS, slice=sent)
                sent += 1
        await conversation.summary(list(range(SLICES)), ROWS, COLUMNS)

    scripted.peer.scripts = [never, at_once]
    gateway = start_gateway(scripted.peer.target, pipelines=LATE)
    wire = Wire(gateway.ports[0].address)
    wire.send(writer.config_file("default"), writer.header(scan.xml), scan.messages(scan.slice(0)))
    wire.wait_for(lambda: slices(wire) == [0], 10)
    wire.send(scan.messages(scan.slice(1)))  # not overdue when its image comes
    wire.wait_for(lambda: slices(wire) == [0, 1], 10)
    wire.send(scan.messages(scan.slice(2, 3)), writer.close())
    assert wire.finish()[-1].startswith("INFO")
    assert slices(wire) == list(range(SLICES))
    assert len(scripted.peer.calls) == 2


@pytest.mark.timeout(60)
def test_classical_models_that_are_refused_are_not_asked_again_and_again(scripted, start_gateway, scan):
    async def late(conversation: Conversation) -> None:
        await conversation.accept()
        await conversation.receive_all()
        await asyncio.sleep(1.5)
        await conversation.plan(SLICES, "network")
        for number in range(SLICES):
            await conversation.image(number, PIXELS, slice=number)
        await conversation.summary(list(range(SLICES)), ROWS, COLUMNS)

    scripted.peer.scripts = [late, refused()]
    wire = played(start_gateway(scripted.peer.target, pipelines=LATE), scan)
    assert slices(wire) == list(range(SLICES))
    assert [call.received[0].spec.model for call in scripted.peer.calls] == ["network", "cg-sense"]


@pytest.mark.timeout(60)
def test_a_busy_service_is_not_pressed_for_classical_images(scripted, start_gateway, scan):
    scripted.peer.scripts = [never, *[refused(grpc.StatusCode.UNAVAILABLE, "BUSY")] * 2, all_images]
    wire = played(start_gateway(scripted.peer.target, pipelines=LATE), scan)
    assert slices(wire) == list(range(SLICES))
    assert len(scripted.peer.calls) == 4


@pytest.mark.timeout(60)
def test_images_that_no_readouts_belong_to_are_delivered_and_end_the_wait(scripted, start_gateway, scan):
    async def strange(conversation: Conversation) -> None:
        await conversation.accept()
        await conversation.receive_all()
        await conversation.plan(1, "cg-sense")
        await conversation.image(0, PIXELS, slice=0, contrast=7)
        await conversation.summary([0], ROWS, COLUMNS)

    scripted.peer.scripts = [never, strange]
    wire = played(start_gateway(scripted.peer.target, pipelines=LATE), scan)
    assert [int(image.header["contrast"]) for image in wire.images()] == [7]
    assert wire.lines()[-1].startswith("INFO")


@pytest.mark.timeout(60)
def test_heads_that_say_nothing_because_the_model_was_replaced_are_named(scripted, start_gateway, scan):
    scripted.peer.scripts = [never, all_images]
    pipelines = {"default": {**LATE["default"], "heads": ["tissue"]}}
    wire = played(start_gateway(scripted.peer.target, pipelines=pipelines), scan)
    assert any("Heads (tissue) say nothing" in line for line in wire.lines())
    assert slices(wire) == list(range(SLICES))


@pytest.mark.timeout(60)
def test_a_service_that_goes_away_after_a_refusal_costs_no_image(scripted, start_gateway, scan):
    gone = refused(grpc.StatusCode.UNAVAILABLE, "GONE")
    scripted.peer.scripts = [refused(), gone, gone, gone, all_images]
    wire = played(start_gateway(scripted.peer.target, pipelines=LATE), scan)
    assert slices(wire) == list(range(SLICES))
    assert wire.lines()[-1].startswith("INFO")


@pytest.mark.timeout(60)
def test_a_network_that_takes_the_service_with_it_is_replaced(scripted, start_gateway, scan):
    async def by_model(conversation: Conversation) -> None:
        await conversation.accept()
        if conversation.received[0].spec.model == "network":
            await conversation.abort(grpc.StatusCode.UNAVAILABLE, "went away", reason("GONE"))
        await conversation.receive_all()
        await conversation.plan(SLICES, "cg-sense")
        for number in range(SLICES):
            await conversation.image(number, PIXELS, slice=number)
        await conversation.summary(list(range(SLICES)), ROWS, COLUMNS)

    scripted.peer.scripts = [by_model]
    pipelines = {"default": {"model": "network", "fallback": ["cg-sense"]}}
    wire = played(start_gateway(scripted.peer.target, pipelines=pipelines), scan)
    assert slices(wire) == list(range(SLICES))
    assert wire.lines()[-1].startswith("INFO")


@pytest.mark.timeout(60)
def test_a_service_that_does_not_let_the_gateway_in_is_away(scripted, start_gateway, scan):
    async def closed(conversation: Conversation) -> None:
        await conversation.receive()
        await conversation.abort(
            grpc.StatusCode.PERMISSION_DENIED, "your certificate has expired", reason("NOT_ALLOWED")
        )

    scripted.peer.scripts = [closed, closed, all_images]
    wire = played(start_gateway(scripted.peer.target), scan)
    assert slices(wire) == list(range(SLICES))
    assert any("NOT_ALLOWED" in line for line in wire.lines())


@pytest.mark.timeout(60)
def test_slices_that_share_their_counters_are_all_delivered(scripted, start_gateway, scan):
    async def alike(conversation: Conversation) -> None:
        await conversation.accept()
        await conversation.receive_all()
        await conversation.plan(SLICES, "rss")
        for number in range(SLICES):
            geometry = pb.Geometry(
                position=(0, 0, 5.0 * number),
                row_direction=(1, 0, 0),
                column_direction=(0, 1, 0),
                slice_direction=(0, 0, 1),
                spacing=(1, 1, 5),
            )
            image = pb.Image(
                index=pb.ImageIndex(image=number),
                rows=ROWS,
                columns=COLUMNS,
                pixels=PIXELS.astype("<f4").tobytes(),
                geometry=geometry,
            )
            await conversation.send(image=image)
        await conversation.summary(list(range(SLICES)), ROWS, COLUMNS)

    scripted.peer.scripts = [alike]
    wire = played(start_gateway(scripted.peer.target), scan)
    assert [float(image.header["position"][2]) for image in wire.images()] == [5.0 * n for n in range(SLICES)]


@pytest.mark.timeout(60)
def test_images_with_numbers_that_are_none_end_no_delivery(scripted, start_gateway, scan):
    async def broken(conversation: Conversation) -> None:
        await conversation.accept()
        await conversation.receive_all()
        await conversation.plan(SLICES, "rss")
        for number, value in enumerate((np.nan, np.inf, 0.0, 1.0)):
            await conversation.image(number, np.full_like(PIXELS, value), slice=number)
        await conversation.summary(list(range(SLICES)), ROWS, COLUMNS)

    scripted.peer.scripts = [broken]
    for pixels in ("float32", "int16"):
        pipelines = {"default": {"model": "rss", "pixels": pixels, "fallback": []}}
        gateway = start_gateway(scripted.peer.target, folder=scan.path.parent / f"spool-{pixels}", pipelines=pipelines)
        wire = played(gateway, scan)
        assert slices(wire) == list(range(SLICES))
        assert wire.lines()[-1].startswith("INFO")
