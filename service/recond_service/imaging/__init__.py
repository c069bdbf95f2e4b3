"""Image arithmetic in NumPy that conditioning and results share: centred Fourier transforms, cropping, interpolation."""

from recond_service.imaging.finish import cut, finish_magnitude, resample
from recond_service.imaging.fourier import image_to_kspace, kspace_to_image

__all__ = ["cut", "finish_magnitude", "image_to_kspace", "kspace_to_image", "resample"]
