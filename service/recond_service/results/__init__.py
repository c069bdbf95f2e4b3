"""Results: quality figures and output files of the images of a request."""

from recond_service.results.writer import ResultWriter, ScanSummary

__all__ = ["ResultWriter", "ScanSummary"]
