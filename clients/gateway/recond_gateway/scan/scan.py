"""One scan at the gateway, from its header on."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import structlog
from pydantic import ValidationError

from recond_gateway.config import Pipeline
from recond_gateway.errors import SessionError
from recond_gateway.mrd.layouts import ACQUISITION_HEADER
from recond_gateway.mrd.messages import Acquisitions
from recond_gateway.scan.feed import ACQUISITIONS, Feed
from recond_gateway.scan.groups import GroupLedger
from recond_gateway.scan.header import HeaderFacts, read_header
from recond_gateway.scan.images import ImageWriter
from recond_gateway.scan.outgoing import Outgoing
from recond_gateway.spool import Recording, Spool, SpoolDamagedError, SpoolError

HEADER: Final = 2
"""Kind of the record that holds the MRD header as it came."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Scan:
    """What a scan is made of; made by `begin` or `resumed`.

    Parameters
    ----------
    scan_id
        Names it to the console, in logs and in the spool.
    device
        Which scanner it came from.
    pipeline
        What is done with it.
    header
        What the gateway reads of its header.
    sent_header
        The header as the service gets it.
    feed
        Its readouts.
    groups
        What belongs to which image.
    writer
        Makes its images.
    counts
        What else came, by kind: waveforms, images, arrays.
    """

    scan_id: str
    device: str
    pipeline: Pipeline
    header: HeaderFacts
    sent_header: bytes
    feed: Feed
    groups: GroupLedger
    writer: ImageWriter
    counts: Counter[str] = field(default_factory=Counter)

    def take(self, batch: Acquisitions) -> None:
        """Take readouts."""
        self.groups.take(batch.headers)
        self.feed.append(batch)

    def finish(self, *, complete: bool) -> None:
        """End the readouts."""
        self.groups.end()
        self.feed.finish(complete=complete)


def begin(spool: Spool, scan_id: str, device: str, pipeline: Pipeline, xml: bytes, outgoing: Outgoing) -> Scan:
    """Return a new scan.

    Parameters
    ----------
    spool
        Where it is kept.
    scan_id, device, pipeline
        As in `Scan`.
    xml
        MRD header, as it came.
    outgoing
        Takes out of it what stays here.

    Where the spool cannot take it, it goes through memory, and `Scan.feed` has overflowed from the start.

    Raises
    ------
    SessionError
        The header cannot be read.
    InputError
        Nothing can be taken out of it.
    """
    header = read_header(xml)
    sent = outgoing.header(xml)
    return _scan(
        scan_id, device, pipeline, header, sent, _recording_of(spool, scan_id, device, pipeline, xml), outgoing
    )


def _recording_of(spool: Spool, scan_id: str, device: str, pipeline: Pipeline, xml: bytes) -> Recording | None:
    """Return a new recording with the header in it; None where the spool cannot take it."""
    try:
        recording = spool.begin(scan_id, {"device": device, "pipeline": pipeline.model_dump()})
        recording.append(HEADER, xml)
    except SpoolError as error:
        _log.warning("scan-not-kept", scan=scan_id, reason=error.reason)
        with contextlib.suppress(SpoolError):
            spool.remove(scan_id)
        return None
    return recording


def resumed(spool: Spool, scan_id: str, outgoing: Outgoing) -> Scan:
    """Return a scan that an earlier process left in the spool, with all its readouts entered as far as they can be read.

    Raises
    ------
    KeyError
        It is not there any more.
    SessionError
        It holds no header, or was begun by another version of the gateway.
    SpoolError
        It cannot be read.
    """
    recording = spool.open(scan_id)
    about: dict[str, Any] = dict(recording.about)
    records = recording.read()
    first = next(records, None)
    if first is None or first.kind != HEADER:
        msg = f"scan {scan_id} in the spool has no header: remove it"
        raise SessionError(msg, reason="SPOOL_DAMAGED")
    try:
        pipeline = Pipeline.model_validate(about["pipeline"])
        device = str(about["device"])
    except (KeyError, ValidationError) as error:
        msg = (
            f"scan {scan_id} in the spool was begun by another version of the gateway, whose pipeline is not known: "
            "start that version until the spool is empty"
        )
        raise SessionError(msg, reason="SPOOL_VERSION") from error
    xml = bytes(first.buffers[0])
    scan = _scan(scan_id, device, pipeline, read_header(xml), outgoing.header(xml), recording, outgoing)
    with contextlib.suppress(SpoolDamagedError):  # what lies before can be read; the feed tells
        for record in records:
            if record.kind == ACQUISITIONS:
                scan.groups.take(np.frombuffer(record.buffers[0], ACQUISITION_HEADER))
    scan.groups.end()
    return scan


def _scan(
    scan_id: str,
    device: str,
    pipeline: Pipeline,
    header: HeaderFacts,
    sent: bytes,
    recording: Recording | None,
    outgoing: Outgoing,
) -> Scan:
    groups = GroupLedger(header)
    writer = ImageWriter(scan_id, header, groups, pipeline, outgoing.restored())
    return Scan(scan_id, device, pipeline, header, sent, Feed(recording, outgoing), groups, writer)
