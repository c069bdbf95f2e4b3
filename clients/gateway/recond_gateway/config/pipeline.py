"""What is done with a scan: a row of the table that names of configurations are looked up in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Output = Literal["magnitude", "phase", "complex"]
Pixels = Literal["float32", "int16"]

Positive = Annotated[float, Field(gt=0)]


class Pipeline(BaseModel):
    """What is done with a scan, and what goes back to the console.

    Parameters
    ----------
    model, model_version
        As for `recond_client.Client.stream`.
    fallback
        Classical models that are asked in this order where `model` is refused, fails, or is late.
    slice_deadline
        Seconds from the last readout of an image until `fallback` is asked for it too.
    heads
        Heads to run on the images.
    masks
        Return the label maps of heads as series of their own.
    outputs
        What of each image is returned, a series each.
    uncertainty
        Return the standard deviation of the error as a series; models that predict none go without.
    pixels
        What images are returned as. ``"int16"``: magnitudes and standard deviations scaled so that the first image of a series
        fills an eighth of the range, phases in steps of pi/4096, with `RescaleSlope` in the attributes. Complex images stay
        complex64.
    priority
        How urgent.
    partial_fourier, virtual_coils, coil_energy
        As for `recond_client.Client.stream`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "auto"
    model_version: str = ""
    fallback: tuple[str, ...] = ("cg-sense", "rss")
    slice_deadline: Positive = 10.0
    heads: tuple[str, ...] = ()
    masks: bool = True
    outputs: tuple[Output, ...] = ("magnitude",)
    uncertainty: bool = False
    pixels: Pixels = "float32"
    priority: Literal["stat", "clinical", "research"] = "stat"
    partial_fourier: Literal["zero-fill", "pocs"] = "zero-fill"
    virtual_coils: Annotated[int, Field(ge=0, le=65535)] = 0
    coil_energy: Annotated[float, Field(ge=0, le=1)] = 0.0

    @property
    def wants_phase(self) -> bool:
        """Whether images are asked for with their phase."""
        return any(output != "magnitude" for output in self.outputs)

    def options(self, *, fallback: str = "") -> dict[str, Any]:
        """Return the keyword arguments of `recond_client.Client.stream`.

        Parameters
        ----------
        fallback
            The classical model to ask in place of `model`: without heads and uncertainty, so that nothing keeps it from its images.
        """
        return {
            "model": fallback or self.model,
            "model_version": "" if fallback else self.model_version,
            "heads": () if fallback else self.heads,
            "uncertainty": self.uncertainty and not fallback,
            "complex_images": self.wants_phase and fallback != "rss",
            "priority": self.priority,
            "partial_fourier": self.partial_fourier,
            "virtual_coils": self.virtual_coils,
            "coil_energy": self.coil_energy,
        }


OPENRECON = Pipeline(pixels="int16")
"""What the fixed name ``openrecon`` stands for unless the table says otherwise: hosts of OpenRecon display integers."""
