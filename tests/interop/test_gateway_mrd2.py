"""The pipe of the MRD version 2 library's own tools with `recond gateway --mrd2` in the place of its reconstruction."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from recond_testing import Service

import recond_client

pytest.importorskip("mrd.tools.phantom", reason="needs mrd-python")
REPETITIONS = 3
OPTIONS = ("--matrix", "64", "--coils", "4", "--repetitions", str(REPETITIONS), "--noise-level", "0.01")


def tool(name: str, *options: str, **streams: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", f"mrd.tools.{name}", *options], **streams)


@pytest.mark.timeout(120)
def test_phantom_to_gateway_to_pictures(service: Service, tmp_path: Path) -> None:
    """``phantom | recond gateway --mrd2 | export_png_images``, with the raw stream kept beside it."""
    raw = tmp_path / "raw.bin"
    config = tmp_path / "gateway.toml"
    config.write_text('[spool]\nmin_free_bytes = 0\n[pipelines.default]\nmodel = "rss"\n')
    command = ["gateway", "--mrd2", "--server", service.address, "--config", str(config)]
    with tool("phantom", *OPTIONS, "-o", str(raw)) as phantom:
        pass
    assert phantom.returncode == 0
    with (
        raw.open("rb") as source,
        subprocess.Popen(
            [sys.executable, "-m", "recond_client", *command, "--spool", str(tmp_path / "spool")],
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as gateway,
        tool("export_png_images", "-o", f"{tmp_path}/image_", stdin=gateway.stdout) as export,
    ):
        assert gateway.stdout is not None
        gateway.stdout.close()
        assert gateway.stderr is not None
        said = gateway.stderr.read().decode()
    assert (gateway.returncode, export.returncode) == (0, 0), said
    pictures = sorted(tmp_path.glob("image_*.png"))
    assert len(pictures) == REPETITIONS
    with recond_client.Client(service.address) as client:
        expected = client.reconstruct(raw.read_bytes(), model="rss").images
    for path, image in zip(pictures, expected, strict=True):
        with Image.open(path) as opened:
            seen = np.asarray(opened).T
        # The tool scales by the brightest pixel and cuts to 8 bits.
        assert seen == pytest.approx(255 * image / image.max(), abs=1.01)
