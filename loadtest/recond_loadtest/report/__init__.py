"""Pages that show one run, or two beside each other."""

from recond_loadtest.report.compare import comparison_page
from recond_loadtest.report.page import run_page

__all__ = ["comparison_page", "run_page"]
