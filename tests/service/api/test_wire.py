"""What a spec becomes inside the service."""

import pytest

from recond.v1 import reconstruction_pb2 as pb
from recond_service.api.reconstruct.wire import read_spec
from recond_service.types import ConditioningOptions, Limits


def conditioning_of(message: pb.Conditioning | None) -> ConditioningOptions:
    spec = pb.ReconstructSpec(acquisition_stream=pb.AcquisitionStream(), conditioning=message)
    return read_spec(spec, Limits()).request.scan.conditioning


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (None, ConditioningOptions()),
        (pb.Conditioning(), ConditioningOptions()),
        (pb.Conditioning(partial_fourier=pb.PARTIAL_FOURIER_ZERO_FILL), ConditioningOptions("zero-fill")),
        (
            pb.Conditioning(partial_fourier=pb.PARTIAL_FOURIER_POCS, virtual_coils=8, coil_energy=0.99),
            ConditioningOptions("pocs", 8, 0.99),
        ),
        (pb.Conditioning(virtual_coils=65535, coil_energy=1.0), ConditioningOptions("zero-fill", 65535, 1.0)),
    ],
)
def test_conditioning(message, options):
    assert conditioning_of(message) == options
