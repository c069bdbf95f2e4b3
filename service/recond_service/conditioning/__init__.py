"""Conditioning: from readouts or sorted k-space to frames that models can take.

Noise whitening, reversal, placement on the grid, averages, calibration lines, oversampling removal, scaling; the rules are those of
the ISMRMRD documentation and, for fastMRI files, of fastMRI. What is dropped or assumed becomes a finding.
"""

from recond_service.conditioning.acquisitions import AcquisitionConditioner
from recond_service.conditioning.condition import condition

__all__ = ["AcquisitionConditioner", "condition"]
