"""From a scan to its frames."""

from __future__ import annotations

from collections.abc import Iterator

from recond_service.conditioning.acquisitions import AcquisitionConditioner, announced_channels
from recond_service.conditioning.planes import condition_planes
from recond_service.conditioning.survey import survey
from recond_service.types import FindingList, Frame, KspaceScan, RawScan, ScanRequest


def condition(scan: RawScan | KspaceScan, request: ScanRequest, findings: FindingList) -> Iterator[Frame]:
    """Return the frames of a scan in the order in which they are complete.

    Samples are read as the frames are taken: of sorted k-space one frame is in memory at a time, of readouts the frames that are
    not complete.

    Parameters
    ----------
    scan
        From `ingest.read_scan`.
    request
        Limits, and the undersampling that is wanted.
    findings
        Gets what was noticed and dropped.

    Raises
    ------
    InvalidInputError
        If the data are not what their header announces.
    LimitExceededError
        If they take more than the request may.
    UnsupportedDataError
        If no model of this service can take them.
    """
    if isinstance(scan, KspaceScan):
        return condition_planes(scan, request, findings)
    found = survey(scan.source, announced_channels(scan.source.header))
    conditioner = AcquisitionConditioner(scan.source.header, request, findings, scan.name, found)
    return _frames(scan, conditioner)


def _frames(scan: RawScan, conditioner: AcquisitionConditioner) -> Iterator[Frame]:
    if scan.noise is not None:
        conditioner.learn_noise(scan.noise)
    for block in scan.source.blocks():
        yield from conditioner.push(block)
    yield from conditioner.finish()
