"""What a client asks the pipeline for."""

from __future__ import annotations

from dataclasses import dataclass

from recond_service.types import HeadRequest, Priority, ScanRequest


@dataclass(frozen=True, slots=True)
class ReconstructionRequest:
    """A scan to reconstruct, checked.

    Parameters
    ----------
    scan
        What the sandbox has to know.
    size_bytes
        Bytes that are announced; 0 for a stream that does not know.
    model, model_version
        As asked for; empty model for the service's own choice, empty version for the newest.
    priority
        How urgent it is.
    """

    scan: ScanRequest
    size_bytes: int
    model: str = ""
    model_version: str = ""
    priority: Priority = Priority.CLINICAL

    @property
    def heads(self) -> tuple[HeadRequest, ...]:
        """Heads that run on the images."""
        return self.scan.heads

    @property
    def complex_images(self) -> bool:
        """Images are wanted with their phase."""
        return self.scan.complex_images

    @property
    def uncertainty(self) -> bool:
        """Images are wanted with the standard deviations of their pixels."""
        return self.scan.uncertainty
