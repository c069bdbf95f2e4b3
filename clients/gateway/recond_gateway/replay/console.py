"""What people see of a replay: lines as they come, and at the end the series, what was sent, and the verdict."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import click

from recond_gateway.mrd.layouts import ImageType
from recond_gateway.replay.arrivals import Line, ReceivedImage, Replay
from recond_gateway.replay.outputs import by_series
from recond_gateway.replay.session import Arrival


def print_arrival(arrival: Arrival) -> None:
    """Print an image or a line as it comes."""
    if isinstance(arrival, Line):
        severity = f"{arrival.severity} " if arrival.severity else ""
        click.echo(f"{arrival.seconds:8.3f} s  {severity}{arrival.text}")
        return
    header = arrival.header
    latency = "" if arrival.latency is None else f"  {1000 * arrival.latency:.1f} ms after its last acquisition"
    click.echo(
        f"{arrival.seconds:8.3f} s  image {int(header['image_index'])} of series {arrival.series}, "
        f"slice {int(header['slice'])}{latency}"
    )


def print_replay(replay: Replay, outputs: Sequence[Path]) -> None:
    """Print what went out and what came back."""
    sent = replay.sent
    speed = sent.size / max(sent.seconds, 1e-9) / 1e6
    waves = f", {sent.waveforms} waveforms" if sent.waveforms else ""
    late = f", at most {sent.behind:.3f} s late" if sent.behind > 0.05 else ""
    click.echo(
        f"sent {sent.acquisitions} acquisitions{waves} in {sent.seconds:.2f} s ({speed:.0f} MB/s), by {replay.timing}{late}"
    )
    for name, images in by_series(replay.images).items():
        click.echo(f"{name}: {_described(images)}")
    click.echo(f"{len(replay.images)} images in {replay.seconds:.2f} s")
    if (verdict := replay.verdict) is not None:
        click.echo(f"{verdict.severity} {verdict.text}")
    for path in outputs:
        click.echo(f"wrote {path}")


def replay_object(replay: Replay, outputs: Sequence[Path]) -> dict[str, object]:
    """Return what ``--json`` prints."""
    verdict = replay.verdict
    return {
        "timing": replay.timing,
        "sent": {
            "acquisitions": replay.sent.acquisitions,
            "waveforms": replay.sent.waveforms,
            "bytes": replay.sent.size,
            "seconds": replay.sent.seconds,
            "behind": replay.sent.behind,
            "complete": replay.sent.complete,
        },
        "images": [
            {
                "series": image.series,
                "index": int(image.header["image_index"]),
                **{name: int(image.header[name]) for name in ("slice", "contrast", "phase", "repetition", "set")},
                "shape": list(image.shape),
                "type": _type(image),
                "seconds": image.seconds,
                "latency": image.latency,
                "attributes": image.attributes,
            }
            for image in replay.images
        ],
        "lines": [{"seconds": line.seconds, "severity": line.severity, "text": line.text} for line in replay.lines],
        "verdict": None if verdict is None else {"severity": verdict.severity, "text": verdict.text},
        "closed": replay.closed,
        "seconds": replay.seconds,
        "failure": None if replay.failure is None else str(replay.failure),
        "outputs": [str(path) for path in outputs],
    }


def _described(images: Sequence[ReceivedImage]) -> str:
    channels, z, y, x = images[0].shape
    sides = [*([channels] if channels > 1 else []), *([z] if z > 1 else []), y, x]
    latencies = [1000 * image.latency for image in images if image.latency is not None]
    waited = (
        f", {statistics.median(latencies):.1f} ms after the last acquisition, at most {max(latencies):.1f} ms"
        if latencies
        else ""
    )
    first, last = images[0].seconds, images[-1].seconds
    return (
        f"{len(images)} x {' x '.join(map(str, sides))} {_type(images[0])}, from {first:.2f} s to {last:.2f} s{waited}"
    )


def _type(image: ReceivedImage) -> str:
    try:
        return ImageType(int(image.header["image_type"])).name.lower()
    except ValueError:
        return f"type {int(image.header['image_type'])}"
