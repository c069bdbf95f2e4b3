"""Results: from reconstructed frames to finished images, quality figures and output files."""

from recond_service.results.writer import ResultWriter, ScanSummary

__all__ = ["ResultWriter", "ScanSummary"]
