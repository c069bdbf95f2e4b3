"""Series: reconstructed images in their place. Order, stacks by orientation and position, 3-D volumes, geometry.

`results` writes what this room makes; heads that look at whole volumes take it, too.
"""

from recond_service.series.assembly import Assembly
from recond_service.series.geometry import affine_of, slice_distance
from recond_service.series.stacks import Series, Stack, StackNumbers, make_series, plane_of

__all__ = ["Assembly", "Series", "Stack", "StackNumbers", "affine_of", "make_series", "plane_of", "slice_distance"]
