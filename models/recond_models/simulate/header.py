"""The ISMRMRD header of a simulated scan."""

from __future__ import annotations

from ismrmrd import xsd

from recond_models.simulate.scan import NOISE_BANDWIDTH, SimulatedScan, unmeasured

_FIELD_STRENGTH = 3.0
_PROTON_MHZ_PER_TESLA = 42.577478518


def encoding_limits(scan: SimulatedScan) -> tuple[int, int, int]:
    """Return the column of line 0, the number of the last line and the number of the line through the centre of k-space.

    Lines are counted from the first that belongs to the measured part of k-space (partial Fourier leaves some out before it).
    """
    settings = scan.settings
    first = unmeasured(settings.columns, settings.partial_fourier)
    return first, settings.columns - 1 - first, settings.columns // 2 - first


def to_xml(scan: SimulatedScan) -> bytes:
    """Return the header as XML, namespace http://www.ismrm.org/ISMRMRD, UTF-8."""
    settings = scan.settings
    _, last, centre = encoding_limits(scan)
    length = settings.field_of_view
    depth, thickness = (
        (settings.slices, settings.slices * scan.slice_spacing) if settings.volume else (1, scan.slice_spacing)
    )
    skipped = unmeasured(settings.slices, settings.partial_fourier_partitions) if settings.volume else 0
    encoding = xsd.encodingType(
        encodedSpace=xsd.encodingSpaceType(
            matrixSize=xsd.matrixSizeType(x=settings.oversampling * settings.rows, y=settings.columns, z=depth),
            fieldOfView_mm=xsd.fieldOfViewMm(x=settings.oversampling * length, y=length, z=thickness),
        ),
        reconSpace=xsd.encodingSpaceType(
            matrixSize=xsd.matrixSizeType(x=settings.rows, y=settings.columns, z=depth),
            fieldOfView_mm=xsd.fieldOfViewMm(x=length, y=length, z=thickness),
        ),
        encodingLimits=xsd.encodingLimitsType(
            kspace_encoding_step_1=xsd.limitType(minimum=0, maximum=last, center=centre),
            kspace_encoding_step_2=xsd.limitType(minimum=0, maximum=depth - 1 - skipped, center=depth // 2 - skipped),
            slice=_count(1 if settings.volume else settings.slices),
            contrast=_count(settings.contrasts),
            repetition=_count(settings.repetitions),
            average=_count(settings.averages),
        ),
        trajectory=xsd.trajectoryType.CARTESIAN,
        parallelImaging=xsd.parallelImagingType(
            accelerationFactor=xsd.accelerationFactorType(
                kspace_encoding_step_1=round(settings.acceleration), kspace_encoding_step_2=1
            ),
            calibrationMode=xsd.calibrationModeType.EMBEDDED
            if scan.calibration.any()
            else xsd.calibrationModeType.OTHER,
        ),
    )
    header = xsd.ismrmrdHeader(
        version=2,
        acquisitionSystemInformation=xsd.acquisitionSystemInformationType(
            systemVendor="recond simulate",
            systemFieldStrength_T=_FIELD_STRENGTH,
            relativeReceiverNoiseBandwidth=NOISE_BANDWIDTH,
            receiverChannels=settings.coils,
            coilLabel=[xsd.coilLabelType(coilNumber=coil, coilName=f"C{coil:02d}") for coil in range(settings.coils)],
        ),
        experimentalConditions=xsd.experimentalConditionsType(
            H1resonanceFrequency_Hz=round(_FIELD_STRENGTH * _PROTON_MHZ_PER_TESLA * 1e6)
        ),
        encoding=[encoding],
    )
    text: str | bytes = xsd.ToXML(header, encoding="utf-8")
    return text.encode() if isinstance(text, str) else text


def _count(number: int) -> xsd.limitType:
    """Return the limits of a counter that takes `number` values from 0 on."""
    return xsd.limitType(minimum=0, maximum=number - 1, center=0)
