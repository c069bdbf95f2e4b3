"""Ingest: from the bytes of strangers to scans whose samples are read when they are wanted.

ISMRMRD and fastMRI HDF5, MRD version 2 streams, BART cfl/hdr, bare arrays, and acquisitions from the wire. Only `RecondError`
leaves this room for bad data; `MemoryError` passes, since the process that this runs in is limited and knows what it means.
"""

from recond_service.ingest.acquisitions import decode_acquisitions
from recond_service.ingest.header import read_header
from recond_service.ingest.read import read_reference, read_scan

__all__ = ["decode_acquisitions", "read_header", "read_reference", "read_scan"]
