"""Images that were reconstructed elsewhere: NIfTI, DICOM, MRD and HDF5, each in its place in the patient."""

from recond_service.ingest.images.label_maps import read_label_map
from recond_service.ingest.images.read import read_images

__all__ = ["read_images", "read_label_map"]
