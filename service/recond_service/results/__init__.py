"""Results: quality figures and output files of the images of a request."""

from recond_service.results.writer import ResultSummary, ResultWriter

__all__ = ["ResultSummary", "ResultWriter"]
