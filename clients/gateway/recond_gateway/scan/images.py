"""From the images and label maps of the service to MRD images for a console."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recond_client.heads import HeadResult
from recond_client.result import Geometry, Image, ImageIndex
from recond_gateway.config import Pipeline
from recond_gateway.mrd import writer
from recond_gateway.mrd.layouts import HEADER_VERSION, IMAGE_HEADER, DataType, ImageType
from recond_gateway.scan.groups import GroupLedger
from recond_gateway.scan.header import HeaderFacts
from recond_gateway.scan.meta import Value, attributes_xml

_EIGHTH: Final = 4096  # of the positive range of int16: what comes brighter than the first image has room
_INT16_MAX: Final = 32767
_PHASE_STEP: Final = math.pi / 4096  # of phases as integers, in radians
_BRIGHT: Final = 99.9  # percentile that counts as the brightest of an image
_WINDOW_FROM: Final = 100.0  # integers cannot say the window of images whose values are smaller than this
_NOWHERE: Final = Geometry((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0))
_NO_PIXELS: Final = np.zeros((0, 0), np.float32)
_SeriesKey = tuple[str, int, tuple[int, int], int]
"""Output, stack, shape, and how often its scale had to change."""
_RESCALED: Final = (
    "Brighter than the images before it, whose scale it would leave: it and those behind it have another RescaleSlope, and a "
    "series of their own."
)
_TYPES: Final = {"magnitude": ImageType.MAGNITUDE, "phase": ImageType.PHASE, "complex": ImageType.COMPLEX}


@dataclass(frozen=True, slots=True)
class Origin:
    """What made an image.

    Parameters
    ----------
    model, version
        Of the service.
    fallback
        Why a classical model took the place of the one that was asked for; empty if it did not.
    """

    model: str
    version: str = ""
    fallback: str = ""


class ImageWriter:
    """Makes the messages of a scan's images; each kind of output has a series of its own.

    Parameters
    ----------
    scan_id
        Goes into the attributes.
    header
        Of the scan.
    groups
        Readouts of the images, for what only their headers tell.
    pipeline
        What goes back, and as what.
    restored
        Attributes of the patient that are put back.
    """

    def __init__(
        self,
        scan_id: str,
        header: HeaderFacts,
        groups: GroupLedger,
        pipeline: Pipeline,
        restored: Mapping[str, str] | None = None,
    ) -> None:
        self._scan_id = scan_id
        self._header = header
        self._groups = groups
        self._pipeline = pipeline
        self._restored = dict(restored or {})
        self._series: dict[_SeriesKey, int] = {}
        self._slopes: dict[_SeriesKey, float] = {}
        self._rescaled: dict[_SeriesKey, int] = {}
        self._counts: dict[int, int] = {}
        self._places: dict[int, Image] = {}

    def messages(self, image: Image, origin: Origin) -> list[bytes]:
        """Return the messages of an image, one for each output that is wanted and there.

        Parameters
        ----------
        image
            Of the service.
        origin
            What made it.
        """
        self._places[image.index.image] = Image(image.index, _NO_PIXELS, image.geometry)
        pixels: dict[str, NDArray[Any]] = {}
        for output in self._pipeline.outputs:
            if output == "magnitude":
                pixels[output] = image.pixels
            elif image.complex_pixels is not None:
                whole = image.complex_pixels
                pixels[output] = whole if output == "complex" else np.angle(whole).astype(np.float32)
        if (
            not pixels
        ):  # a classical model without phase took the place of one with: its magnitude is better than nothing
            pixels["magnitude"] = image.pixels
        if self._pipeline.uncertainty and image.uncertainty is not None:
            pixels["uncertainty"] = image.uncertainty
        return [self._message(output, image, array, origin) for output, array in pixels.items()]

    def head_messages(self, result: HeadResult) -> list[bytes]:
        """Return the messages of a head's label map, one for each slice; none where it has none.

        Parameters
        ----------
        result
            Of the service.
        """
        if result.label_map is None or not self._pipeline.masks:
            return []
        messages = []
        for number, labels in zip(result.images, result.label_map, strict=True):
            image = self._places.get(number)
            if image is None:
                continue
            labelled = np.ascontiguousarray(labels, np.uint16)
            messages.append(self._label_message(result, image, labelled))
        return messages

    def _message(self, output: str, image: Image, pixels: NDArray[Any], origin: Origin) -> bytes:
        attributes: dict[str, Value | list[Value]] = {"DataRole": "Image"}
        if output == "uncertainty":
            attributes["DataRole"] = ["Quantitative", "Uncertainty"]
        key = self._key(output, image.index.stack, pixels.shape)
        warnings = []
        if output == "complex":
            sent = np.ascontiguousarray(pixels.T, "<c8")
        elif self._pipeline.pixels == "int16" and output == "phase":
            sent = np.ascontiguousarray(np.rint(np.nan_to_num(pixels.T) / _PHASE_STEP), "<i2")
            attributes |= {"RescaleSlope": _PHASE_STEP, "RescaleIntercept": 0}
        elif self._pipeline.pixels == "int16":
            sent, rescaled = self._as_integers(pixels.T, key, attributes)
            if rescaled:
                warnings.append(_RESCALED)
                key = self._key(output, image.index.stack, pixels.shape)
        else:
            sent = np.ascontiguousarray(pixels.T, "<f4")
        header = self._header_of(image, pixels.shape, self._series_of(key))
        header["image_type"] = _TYPES.get(output, ImageType.MAGNITUDE)
        header["data_type"] = DataType.of(sent.dtype)
        attributes |= self._about(image, origin, warnings)
        if output in {"magnitude", "uncertainty"}:
            attributes |= _window(sent)
        extra = f"recond {origin.model}" + ("" if output == "magnitude" else f" {output}")
        attributes["SeriesDescriptionAdditional"] = extra
        return writer.image(header, attributes_xml({**attributes, **self._restored}), sent.tobytes())

    def _label_message(self, result: HeadResult, image: Image, labels: NDArray[np.uint16]) -> bytes:
        series = self._series_of(self._key(result.head, image.index.stack, labels.shape))
        header = self._header_of(image, labels.shape, series)
        header["image_type"] = ImageType.MAGNITUDE
        header["data_type"] = DataType.UINT16
        attributes: dict[str, Value | list[Value]] = {
            "DataRole": "Segmentation",
            "SeriesDescriptionAdditional": f"recond {result.head}",
            "ImageProcessingHistory": ["recond", f"{result.head} {result.version}"],
            "ImageType": ["SEGMENTATION", result.head.upper()],
            "RecondHead": result.head,
            "RecondHeadVersion": result.version,
            "RecondScan": self._scan_id,
            "ImageComments": f"recond {result.head} {result.version}: " + _legend(result.labels),
            "WindowCenter": max(int(labels.max()), 1) // 2 + 1,
            "WindowWidth": max(int(labels.max()), 1) + 1,
            **{f"RecondLabel{value}": name for name, value in result.labels.items()},
            **self._geometry(image),
        }
        return writer.image(
            header, attributes_xml({**attributes, **self._restored}), np.ascontiguousarray(labels.T).tobytes()
        )

    def _key(self, output: str, stack: int, shape: tuple[int, ...]) -> _SeriesKey:
        """Return what tells series apart: images of one number must have one shape, and integers one scale."""
        first = (output, stack, (shape[0], shape[1]), 0)
        return (*first[:3], self._rescaled.get(first, 0))

    def _series_of(self, key: _SeriesKey) -> int:
        return self._series.setdefault(key, len(self._series) + 1)

    def _header_of(self, image: Image, shape: tuple[int, ...], series: int) -> np.void:
        rows, columns = shape
        geometry = image.geometry or _NOWHERE
        index = image.index
        header: np.void = np.zeros(1, IMAGE_HEADER)[0]
        header["version"] = HEADER_VERSION
        header["matrix_size"] = (rows, columns, 1)
        row, column, thickness = geometry.spacing
        header["field_of_view"] = (rows * row, columns * column, thickness)
        header["channels"] = 1
        header["position"] = geometry.position
        header["read_dir"] = geometry.row_direction
        header["phase_dir"] = geometry.column_direction
        header["slice_dir"] = geometry.slice_direction
        for name in ("slice", "contrast", "phase", "repetition", "set"):
            header[name] = getattr(index, name)
        group = self._groups.group_of(index)
        if group is not None:
            first = group.first[0]
            for name in (
                "measurement_uid",
                "patient_table_position",
                "acquisition_time_stamp",
                "physiology_time_stamp",
                "user_int",
                "user_float",
            ):
                header[name] = first[name]
            header["average"] = first["idx"]["average"]
        self._counts[series] = self._counts.get(series, 0) + 1
        header["image_index"] = min(self._counts[series], 65535)
        header["image_series_index"] = series
        return header

    def _about(self, image: Image, origin: Origin, notes: Sequence[str] = ()) -> dict[str, Value | list[Value]]:
        named = f"{origin.model} {origin.version}".strip()
        warnings = [*(finding.message for finding in image.findings if finding.severity == "warning"), *notes]
        if origin.fallback:
            warnings.insert(0, f"Reconstructed by {origin.model}: {origin.fallback}")
        comments = [f"recond {named}"]
        about: dict[str, Value | list[Value]] = {
            "ImageProcessingHistory": ["recond", named],
            "RecondModel": origin.model,
            "RecondModelVersion": origin.version,
            "RecondScan": self._scan_id,
        }
        residual = image.data_consistency_residual
        if residual is not None:
            about["RecondDataConsistencyResidual"] = residual
            comments.append(f"residual {residual:.3g}")
        if origin.fallback:
            about["RecondFallback"] = 1
        if warnings:
            about["RecondWarning"] = [*warnings]
            comments += warnings
        about["ImageComments"] = "; ".join(comments)
        echo, inversion = self._time(self._header.echo_times, image.index), self._header.inversion_times
        if echo is not None:
            about["EchoTime"] = echo
        if inversion:
            about["InversionTime"] = inversion[0]
        return about | self._geometry(image)

    @staticmethod
    def _time(times: tuple[float, ...], index: ImageIndex) -> float | None:
        if not times:
            return None
        return times[index.contrast] if index.contrast < len(times) else times[0]

    @staticmethod
    def _geometry(image: Image) -> dict[str, Value | list[Value]]:
        if image.geometry is None:
            return {"GeometryMissing": 1, "RecondGeometry": "The readouts tell no position and orientation."}
        return {
            "Keep_image_geometry": 1,
            "ImageRowDir": [*image.geometry.row_direction],
            "ImageColumnDir": [*image.geometry.column_direction],
            "ImageSliceDir": [*image.geometry.slice_direction],
        }

    def _as_integers(
        self, pixels: NDArray[np.float32], key: _SeriesKey, attributes: dict[str, Value | list[Value]]
    ) -> tuple[NDArray[np.int16], bool]:
        """Return magnitudes as integers, and whether their scale had to change.

        The first image of a series that is not empty sets the scale. One that would be cut off by it, because the first was air,
        begins another series.
        """
        numbers = np.where(np.isfinite(pixels), pixels, np.float32(0.0))
        if (wrong := int(pixels.size - np.isfinite(pixels).sum())) > 0:
            attributes["RecondNotFinitePixels"] = wrong
        bright = _bright(numbers, _BRIGHT) or float(numbers.max(initial=0.0))
        slope, rescaled = self._slopes.get(key, 0.0), False
        if slope and bright > slope * _INT16_MAX:
            self._rescaled[(*key[:3], 0)] = key[3] + 1
            key, slope, rescaled = (*key[:3], key[3] + 1), 0.0, True
        if not slope and bright > 0:
            slope = self._slopes[key] = bright / _EIGHTH
        slope = slope or 1.0  # of an image that is empty: it has all scales
        scaled = np.rint(numbers / slope)
        clipped = int((scaled > _INT16_MAX).sum())
        if clipped:
            attributes["RecondClippedPixels"] = clipped
        attributes |= {"RescaleSlope": slope, "RescaleIntercept": 0}
        return np.ascontiguousarray(np.clip(scaled, 0, _INT16_MAX), "<i2"), rescaled


def _window(pixels: NDArray[Any]) -> dict[str, Value | list[Value]]:
    """Return a window as integers: consoles flatten images whose window is given as fractions."""
    bright = _bright(pixels, 99)
    if bright < _WINDOW_FROM:
        return {}
    return {"WindowCenter": round(bright / 2), "WindowWidth": round(bright)}


def _bright(pixels: NDArray[Any], percent: float) -> float:
    """Return a percentile of an image, of every third row and column: the console waits for it. NaN and Inf do not count."""
    some = pixels[::3, ::3]
    finite = some[np.isfinite(some)]
    return float(np.percentile(finite, percent)) if finite.size else 0.0


def _legend(labels: Mapping[str, int]) -> str:
    return ", ".join(f"{value} {name}" for name, value in labels.items())
