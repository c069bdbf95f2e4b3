"""Readouts of both directions whose centre may be meant before or after those that are reversed are turned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from field_scans import COLUMNS, FULL, RIGHT, error, lines, picture, rss, step_limit, volume_kspace, volume_lines, xml
from raw_builders import REVERSE, Readout


def turned(line: Readout, *, as_measured: bool = False) -> Readout:
    """A readout backwards, its centre in the middle: that after it is turned, or as measured, which leaves out a sample."""
    data = line.data[:, ::-1]
    if as_measured:
        data = np.roll(data, 1, axis=1)
        data[:, 0] = 0
    return replace(line, data=data, flags=line.flags | REVERSE)


@pytest.mark.parametrize("as_measured", [False, True])
@pytest.mark.parametrize("shots", [1, 2])
def test_the_samples_tell_which_centre_is_meant(read, as_measured: bool, shots: int) -> None:
    readouts = [turned(r, as_measured=as_measured) if n // shots % 2 else r for n, r in enumerate(lines(FULL))]
    found = read(xml(), readouts)
    expected = FULL.copy()
    if as_measured:
        expected[:, 0, [n for n in range(COLUMNS) if n // shots % 2]] = 0
    assert error(found.images, rss(expected)[None]) < RIGHT
    codes = {finding.code for finding in found.findings}
    assert ("reversed-centre-turned" in codes) is not as_measured
    assert "reversed-centre-unclear" not in codes


@pytest.mark.parametrize("delay", [-0.3, 0.25])
def test_readouts_that_do_not_quite_fit_are_placed_at_the_nearest_sample(read, delay: float) -> None:
    along = (np.arange(FULL.shape[1]) - FULL.shape[1] // 2) / FULL.shape[1]
    image = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(FULL, axes=1), axis=1), axes=1)
    image = image * np.exp(2j * np.pi * delay * along)[:, None]
    late = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(image, axes=1), axis=1), axes=1).astype(np.complex64)
    readouts = [turned(b) if n % 2 else a for n, (a, b) in enumerate(zip(lines(FULL), lines(late), strict=True))]
    found = read(xml(), readouts)
    expected = np.where(np.arange(COLUMNS) % 2, late, FULL)
    assert error(found.images, rss(expected)[None]) < RIGHT


def test_undersampled_readouts_of_both_directions(read) -> None:
    chosen = range(0, COLUMNS, 2)
    found = read(xml(), [turned(r) if n % 2 else r for n, r in enumerate(lines(FULL, chosen))])
    expected = np.where(np.isin(np.arange(COLUMNS), chosen), FULL, 0)
    assert error(found.images, rss(expected)[None]) < RIGHT


def test_where_all_are_reversed_no_sample_is_lost(read) -> None:
    assert error(read(xml(), [turned(line) for line in lines(FULL)]).images, picture()[None]) < RIGHT


def test_samples_that_do_not_tell_are_warned_about(read) -> None:
    rng = np.random.default_rng(1)
    noise = (rng.standard_normal(FULL.shape) + 1j * rng.standard_normal(FULL.shape)).astype(np.complex64)
    found = read(xml(), [turned(r) if n % 2 else r for n, r in enumerate(lines(noise))])
    assert "reversed-centre-unclear" in found.warnings


def test_a_volume_of_readouts_of_both_directions(read) -> None:
    volume = np.stack([picture(24, 16, gain=1 + 0.2 * p) for p in range(6)], -1)
    header = xml((24, 16, 6), view=(200, 180, 30), limits=step_limit(15, 8) + step_limit(5, 3, axis=2))
    readouts = [turned(line) if line.step % 2 else line for line in volume_lines(volume_kspace(volume))]
    found = read(header, readouts)
    assert error(found.images, volume.transpose(2, 0, 1)) < RIGHT
