"""Output files: fastMRI, MRD, NIfTI, PNG, maps of heads. Each writes a series, or one stack of it, as `series` made it."""

from recond_service.results.writers.fastmri import write_fastmri
from recond_service.results.writers.label_map import write_attention_map, write_label_map
from recond_service.results.writers.mrd import write_mrd
from recond_service.results.writers.nifti import write_nifti
from recond_service.results.writers.png import write_png

__all__ = ["write_attention_map", "write_fastmri", "write_label_map", "write_mrd", "write_nifti", "write_png"]
