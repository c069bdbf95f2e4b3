"""The profile ``recond-mrd-1`` for MRD version 1 headers, streams and files, and for fastMRI files.

After the basic profile of DICOM PS3.15 Annex E, without its options, except that free text keeps words of published vocabularies.
Decisions where there was a choice:

* Sex, weight and height are removed as in the basic profile: no reconstruction reads them.
* Dates are removed, not shifted; time stamps of readouts, which count from midnight, are shifted so that the first is 0. Times
  since a trigger are set to zero: they tell the heart rate, and nothing here reads them.
* Maker, model, field strength and channels stay, as the basic profile has it; institution, station, device and serial number go.
* Coil names stay where they are technical, since noise scans are matched by them; others get names that are the same for the same
  original.
* Numbers stay where the schema has a number; user parameters by their names.
"""

from __future__ import annotations

from typing import Final

from recond_client.privacy import vocabulary
from recond_client.privacy.profile import REMOVED_UNKNOWN, Action, Area, Profile, Rule
from recond_client.privacy.values import Choice, CoilName, Number, Values, Whole, Words
from recond_client.privacy.vocabulary import names_of

_WHOLE: Final = Whole()
_NUMBER: Final = Number()

_NAMED_WHOLE: Final = frozenset(
    names_of(
        "etl numberOfNavigators rampUpTime rampDownTime flatTopTime echoSpacing acqDelayTime numSamples interleaves "
        "SamplingTime_ns EmbeddedRefLinesE1 EmbeddedRefLinesE2 ReferenceLinesE1 ReferenceLinesE2 VENC* TurboFactor "
        "TFEfactor EPIFactor MultibandFactor ZeroFillFactor PhaseOversampling SliceOversampling"
    )
)
_NAMED_NUMBER: Final = frozenset(
    names_of(
        "dwellTime MaxGradient_G_per_cm MaxSlewRate_G_per_cm_per_s FOVCoeff_1_cm krmax_per_cm rampUpTime rampDownTime flatTopTime "
        "acqDelayTime echoSpacing MaxwellCoefficient_* VENC* BValue* Bandwidth PixelBandwidth SpacingBetweenSlices"
    )
)
_META_NUMBERS: Final = names_of(
    "RescaleIntercept RescaleSlope WindowCenter WindowWidth EchoTime InversionTime RepetitionTime FlipAngle "
    "Keep_image_geometry ImageRowDir ImageColumnDir ImageSliceDir"
)
_DIMENSIONS: Final = names_of(
    "average contrast phase repetition set segment user_0 user_1 user_2 user_3 user_4 user_5 user_6 user_7"
)
_LIMITS: Final = ("kspace_encoding_step_0", "kspace_encoding_step_1", "kspace_encoding_step_2", "slice", *_DIMENSIONS)
_DATA_ROLES: Final = ("Image", "Quantitative", "Segmentation", "Uncertainty", "Mask", "Map")


def _remove(parent: str, names: str, dicom: str = "") -> list[Rule]:
    keywords = dicom.split() or [""] * len(names.split())
    return [
        Rule(Area.HEADER, f"{parent}.{name}", Action.REMOVE, dicom="" if keyword == "-" else keyword)
        for name, keyword in zip(names.split(), keywords, strict=True)
    ]


def _keep(parent: str, names: str, values: Values, why: str = "") -> list[Rule]:
    return [Rule(Area.HEADER, f"{parent}.{name}", Action.KEEP, values, why=why) for name in names.split()]


def _header(place: str, action: Action, values: Values | None = None, dicom: str = "", why: str = "") -> Rule:
    return Rule(Area.HEADER, place, action, values, dicom=dicom, why=why)


def _parameters(parent: str, *, base64: bool) -> list[Rule]:
    kinds = ["userParameterString", *(["userParameterBase64"] if base64 else [])]
    return [
        Rule(Area.HEADER, f"{parent}.userParameterLong", Action.CLEAN, _WHOLE, _NAMED_WHOLE, why="by their names"),
        Rule(Area.HEADER, f"{parent}.userParameterDouble", Action.CLEAN, _NUMBER, _NAMED_NUMBER, why="by their names"),
        *(Rule(Area.HEADER, f"{parent}.{kind}", Action.REMOVE) for kind in kinds),
    ]


def _encoding() -> list[Rule]:
    spaces = [f"encoding.{space}" for space in ("encodedSpace", "reconSpace")]
    description = "encoding.trajectoryDescription"
    parallel = "encoding.parallelImaging"
    return [
        *(rule for space in spaces for rule in _keep(f"{space}.matrixSize", "x y z", _WHOLE)),
        *(rule for space in spaces for rule in _keep(f"{space}.fieldOfView_mm", "x y z", _NUMBER)),
        *(
            rule
            for limit in _LIMITS
            for rule in _keep(f"encoding.encodingLimits.{limit}", "minimum maximum center", _WHOLE)
        ),
        _header(
            "encoding.trajectory",
            Action.KEEP,
            Choice(("cartesian", "epi", "radial", "goldenangle", "spiral", "other"), "other"),
        ),
        _header(
            f"{description}.identifier",
            Action.CLEAN,
            Choice(("ConventionalEPI", "HargreavesVDS2000", "vds", "spiral", "radial", "epi", "other"), "other"),
        ),
        *_parameters(description, base64=False),
        *_remove(description, "comment"),
        *_keep(f"{parallel}.accelerationFactor", "kspace_encoding_step_1 kspace_encoding_step_2", _WHOLE),
        _header(
            f"{parallel}.calibrationMode",
            Action.KEEP,
            Choice(("embedded", "interleaved", "separate", "external", "other"), "other"),
        ),
        _header(
            f"{parallel}.interleavingDimension",
            Action.KEEP,
            Choice(("phase", "repetition", "contrast", "average", "other"), "other"),
        ),
        *_keep(f"{parallel}.multiband.spacing", "dZ", _NUMBER),
        *_keep(f"{parallel}.multiband", "deltaKz", _NUMBER),
        *_keep(f"{parallel}.multiband", "multiband_factor", _WHOLE),
        _header(f"{parallel}.multiband.calibration", Action.KEEP, Choice(("separable2D", "full3D", "other"), "other")),
        *_keep(f"{parallel}.multiband", "calibration_encoding", _WHOLE),
        *_keep("encoding", "echoTrainLength", _WHOLE),
    ]


def _xml() -> list[Rule]:
    subject, study, measurement = "subjectInformation", "studyInformation", "measurementInformation"
    system, sequence = "acquisitionSystemInformation", "sequenceParameters"
    positions = names_of("HFP HFS HFDR HFDL FFP FFS FFDR FFDL")
    return [
        _header("version", Action.KEEP, _WHOLE),
        *_remove(
            subject,
            "patientName patientWeight_kg patientHeight_m patientID patientBirthdate patientGender",
            "PatientName PatientWeight PatientSize PatientID PatientBirthDate PatientSex",
        ),
        *_remove(
            study,
            "studyDate studyTime studyID accessionNumber referringPhysicianName studyDescription",
            "StudyDate StudyTime StudyID AccessionNumber ReferringPhysicianName StudyDescription",
        ),
        _header(f"{study}.studyInstanceUID", Action.UID, dicom="StudyInstanceUID", why="one study stays one study"),
        _header(
            f"{study}.bodyPartExamined",
            Action.CLEAN,
            Words(vocabulary.BODY_PARTS, "parts of the body"),
            "BodyPartExamined",
        ),
        _header(f"{measurement}.measurementID", Action.DUMMY, why="scans that depend on each other still do"),
        *_remove(measurement, "seriesDate seriesTime", "SeriesDate SeriesTime"),
        _header(f"{measurement}.patientPosition", Action.KEEP, Choice(positions), "PatientPosition"),
        *_keep(f"{measurement}.relativeTablePosition", "x y z", _NUMBER),
        _header(f"{measurement}.initialSeriesNumber", Action.KEEP, _WHOLE, "SeriesNumber"),
        *_remove(
            measurement,
            "protocolName sequenceName seriesDescription",
            "ProtocolName SequenceName SeriesDescription",
        ),
        _header(
            f"{measurement}.measurementDependency.dependencyType",
            Action.CLEAN,
            Choice(("noise", "sensmap", "senmap", "coilsens", "calibration", "phasemap", "b0map", "other"), "other"),
            why="says that there is a noise scan",
        ),
        _header(f"{measurement}.measurementDependency.measurementID", Action.DUMMY),
        _header(f"{measurement}.seriesInstanceUIDRoot", Action.UID, dicom="SeriesInstanceUID"),
        _header(f"{measurement}.frameOfReferenceUID", Action.UID, dicom="FrameOfReferenceUID"),
        _header(
            f"{measurement}.referencedImageSequence.referencedSOPInstanceUID",
            Action.UID,
            dicom="ReferencedSOPInstanceUID",
        ),
        _header(
            f"{system}.systemVendor",
            Action.CLEAN,
            Words(vocabulary.VENDORS, "makers"),
            "Manufacturer",
            "decides the sign of the Fourier transform",
        ),
        _header(
            f"{system}.systemModel",
            Action.CLEAN,
            Words(vocabulary.MODELS, "families of scanners"),
            "ManufacturerModelName",
        ),
        _header(f"{system}.systemFieldStrength_T", Action.KEEP, _NUMBER, "MagneticFieldStrength"),
        _header(f"{system}.relativeReceiverNoiseBandwidth", Action.KEEP, _NUMBER, why="scales the noise"),
        _header(f"{system}.receiverChannels", Action.KEEP, _WHOLE, why="read by the reconstruction"),
        _header(f"{system}.coilLabel.coilNumber", Action.KEEP, _WHOLE),
        _header(
            f"{system}.coilLabel.coilName",
            Action.DUMMY,
            CoilName(vocabulary.COILS),
            "ReceiveCoilName",
            "noise scans are matched by it; technical names stay",
        ),
        *_remove(
            system,
            "institutionName stationName deviceID deviceSerialNumber",
            "InstitutionName StationName DeviceID DeviceSerialNumber",
        ),
        _header(
            "experimentalConditions.H1resonanceFrequency_Hz",
            Action.CLEAN,
            Whole(10_000),
            "ImagingFrequency",
            "to the hertz it tells the magnet",
        ),
        *_encoding(),
        *_keep(sequence, "TR TE TI flipAngle_deg", _NUMBER),
        _header(
            f"{sequence}.sequence_type",
            Action.CLEAN,
            Words(vocabulary.SEQUENCES, "names of sequences"),
            "ScanningSequence",
        ),
        *_keep(sequence, "echo_spacing", _NUMBER),
        _header(f"{sequence}.diffusionDimension", Action.KEEP, Choice(_DIMENSIONS)),
        *_keep(f"{sequence}.diffusion.gradientDirection", "rl ap fh", _NUMBER),
        *_keep(f"{sequence}.diffusion", "bvalue", _NUMBER),
        _header(f"{sequence}.diffusionScheme", Action.CLEAN, Words(vocabulary.DIFFUSION_SCHEMES, "schemes")),
        *_parameters("userParameters", base64=True),
        _header("waveformInformation", Action.REMOVE, why="waveforms go"),
        _header(
            REMOVED_UNKNOWN, Action.REMOVE, why="elements, attributes, comments and text that the schema does not know"
        ),
    ]


def _rest() -> list[Rule]:
    stamps = "shifted so that the first of the scan is 0"
    records = [
        Rule(area, place, action, why=why)
        for area in (Area.ACQUISITION, Area.IMAGE)
        for place, action, why in (
            ("measurement_uid", Action.DUMMY, "the same number for the same measurement"),
            ("acquisition_time_stamp", Action.CLEAN, stamps),
            ("physiology_time_stamp", Action.ZERO, "tells the heart rate"),
            ("user_int", Action.ZERO, "no reconstruction reads it"),
            ("user_float", Action.ZERO, "no reconstruction reads it"),
        )
    ]
    return [
        *records,
        Rule(Area.ACQUISITION, "idx.user", Action.ZERO, why="no reconstruction reads it"),
        *(Rule(Area.META, name, Action.KEEP, _NUMBER) for name in _META_NUMBERS),
        Rule(Area.META, "DataRole", Action.CLEAN, Choice(_DATA_ROLES)),
        Rule(Area.META, "IceMiniHead", Action.REMOVE, why="holds patient data in base64"),
        Rule(Area.META, REMOVED_UNKNOWN, Action.REMOVE),
        Rule(Area.FILE, "(names of groups)", Action.CLEAN, why="dataset, or dataset_1, dataset_2, ... in their order"),
        Rule(Area.FILE, "waveforms", Action.REMOVE, why="an ECG may tell who it is"),
        Rule(Area.FILE, "configAdditional", Action.REMOVE),
        Rule(Area.FILE, REMOVED_UNKNOWN, Action.REMOVE, why="members, HDF5 attributes, user blocks, free space"),
        Rule(Area.FASTMRI, "patient_id", Action.DUMMY, dicom="PatientID", why="scans of a patient stay together"),
        Rule(Area.FASTMRI, "acquisition", Action.CLEAN, Words(vocabulary.ACQUISITIONS, "acquisitions of fastMRI")),
        Rule(Area.FASTMRI, "max", Action.KEEP, _NUMBER),
        Rule(Area.FASTMRI, "norm", Action.KEEP, _NUMBER),
        Rule(Area.FASTMRI, REMOVED_UNKNOWN, Action.REMOVE),
        Rule(Area.STREAM, "waveforms", Action.REMOVE, why="an ECG may tell who it is"),
        Rule(Area.STREAM, "text", Action.REMOVE, why="logs and configAdditional"),
    ]


RECOND_MRD_1: Final = Profile("recond-mrd-1", (*_xml(), *_rest()))
"""The profile that is used by default."""
