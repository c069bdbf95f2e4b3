"""Signals of tissues from their relaxation times, for the contrasts that scanners make."""

from __future__ import annotations

from typing import Literal

import numpy as np

Contrast = Literal["t1", "t1post", "t2", "flair", "pd", "t2*"]

TISSUES = ("white", "grey", "fluid", "fat", "soft", "bone", "blood")
"""White and grey matter, cerebrospinal fluid, fat and marrow, muscle and skin, cortical bone, venous blood."""

# Proton density relative to water, T1, T2 and T2* in ms at 1.5 to 3 T, after Stanisz et al. 2005 (doi:10.1002/mrm.20605), Rooney et
# al. 2007 (doi:10.1002/mrm.21122) and Wansapura et al. 1999 (doi:10.1002/(SICI)1522-2586(199904)9:4<531::AID-JMRI4>3.0.CO;2-L).
_PROPERTIES: dict[str, tuple[float, float, float, float]] = {
    "white": (0.70, 750.0, 72.0, 50.0),
    "grey": (0.82, 1200.0, 92.0, 58.0),
    "fluid": (1.00, 4000.0, 1600.0, 400.0),
    "fat": (0.90, 320.0, 85.0, 32.0),
    "soft": (0.80, 1100.0, 42.0, 28.0),
    "bone": (0.12, 500.0, 5.0, 2.0),
    "blood": (0.85, 1500.0, 90.0, 22.0),
}
_SPREAD = 0.1
_FAT_SUPPRESSED_SHARE = 0.25
_INVERSION_SHARE = 0.5


def signals(generator: np.random.Generator, contrast: Contrast) -> dict[str, float]:
    """Draw a sequence of a contrast and return the signal of each of `TISSUES`; white matter is 1.

    Spin echoes (Bernstein et al., Handbook of MRI Pulse Sequences, 2004): ``PD (1 - exp(-TR/T1)) exp(-TE/T2)``; with inversion
    ``PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2)``; spoiled gradient echoes
    ``PD sin(a) (1 - exp(-TR/T1)) / (1 - cos(a) exp(-TR/T1)) exp(-TE/T2*)``. Contrast agent shortens the T1 of blood.
    """
    made = {}
    inverted = generator.random() < _INVERSION_SHARE
    uniform = generator.uniform
    times = {
        "t1": (uniform(400, 750), uniform(8, 18)),
        "t1post": (uniform(400, 750), uniform(8, 18)),
        "t2": (uniform(3000, 7000), uniform(80, 125)),
        "flair": (uniform(8000, 11000), uniform(85, 140)),
        "pd": (uniform(2200, 5000), uniform(8, 32)),
        "t2*": (uniform(400, 900), uniform(14, 30)),
    }
    repetition, echo = times[contrast]
    angle = np.radians(uniform(12, 32))
    inversion = 0.0
    if contrast == "flair":
        # The fluid passes zero, more or less.
        inversion = 4000 * np.log(2 / (1 + np.exp(-repetition / 4000))) * uniform(0.9, 1.08)
    elif contrast in {"t1", "t1post"} and inverted:
        repetition, echo, inversion = uniform(1600, 2400), uniform(2, 5), uniform(800, 1100)
    for tissue, usual in _PROPERTIES.items():
        density, t1, t2, t2_star = np.asarray(usual) * np.exp(generator.normal(0, _SPREAD, 4))
        if contrast == "t1post" and tissue == "blood":
            t1 = uniform(150, 400)
        recovery = np.exp(-repetition / t1)
        if contrast == "t2*":
            value = np.sin(angle) * (1 - recovery) / (1 - np.cos(angle) * recovery) * np.exp(-echo / t2_star)
        elif inversion:
            value = abs(1 - 2 * np.exp(-inversion / t1) + recovery) * np.exp(-echo / t2)
        else:
            value = (1 - recovery) * np.exp(-echo / t2)
        if contrast in {"t2", "flair", "pd"} and tissue == "fat":
            value *= uniform(1, 2)  # fat is bright in trains of echoes
        made[tissue] = float(density * value)
    if generator.random() < _FAT_SUPPRESSED_SHARE:
        made["fat"] *= uniform(0.1, 0.4)
    if contrast != "t1post" and generator.random() < 0.5:
        made["blood"] *= uniform(0.05, 0.5)  # it flows
    white = made["white"]
    return {tissue: value / white for tissue, value in made.items()}
