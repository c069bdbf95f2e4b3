"""`recond evaluate` against fastMRI's own `evaluate.py` on the same files: means, and twice the standard deviations.

fastMRI lives in an environment of its own (`make interop-venv`).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from recond_testing import Service

from recond_client.cli import main
from recond_models.simulate import write_fastmri
from recond_models.simulate.scan import ScanSettings, simulate

ROOT = Path(__file__).parents[2]
HOME = Path(os.environ.get("RECOND_FASTMRI", ROOT / ".venv-fastmri"))
PYTHON = HOME / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason=f"fastmri is not installed in {HOME}: make interop-venv")

PROGRAM = """
import json, sys
from argparse import Namespace
from pathlib import Path
from fastmri.evaluate import evaluate
target, predictions, acquisition, acceleration = sys.argv[1:]
options = Namespace(target_path=Path(target), predictions_path=Path(predictions), acquisition=acquisition or None,
                    acceleration=int(acceleration) or None)
metrics = evaluate(options, "reconstruction_rss")
means, deviations = metrics.means(), metrics.stddevs()
print(json.dumps({name.lower(): [means[name].item(), 2 * deviations[name].item()] for name in means}))
"""


@pytest.mark.parametrize(
    ("sampling", "folder_name", "acceleration"),
    [
        (["--mask", "equispaced_fraction"], "equispaced-fraction-4-0.08", 0),
        ([], "own-mask", 4),
    ],
    ids=["drawn", "own"],
)
def test_means_and_deviations(
    service: Service,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sampling: list[str],
    folder_name: str,
    acceleration: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    data, images = tmp_path / "data", tmp_path / "images"
    data.mkdir()
    for number in range(4):
        # Oversampled rows, more rows than columns, slices of different brightness, one file of another acceleration.
        settings = ScanSettings(
            phantom="shepp-logan",
            coils=3,
            slices=1 + number,
            rows=80,
            columns=72,
            noise=0.01 * number,
            acceleration=(8 if number == 3 else 4) if acceleration else 1,
            calibration_lines=8,
            seed=number,
        )
        write_fastmri.write(simulate(settings), data / f"file100000{number}.h5")
    command = ["evaluate", str(data), "--model", "rss", *sampling, "--save", str(images), "--json"]
    command += ["--server", service.address]
    result = CliRunner().invoke(main, command)  # of all: fastMRI opens the images before it looks at its filters
    if acceleration:
        result = CliRunner().invoke(main, [*command, "--only-acceleration", str(acceleration)])
    assert result.exit_code == 0, result.stderr
    group = json.loads(result.stdout)["groups"][0]
    assert group["volumes"] == (3 if acceleration else 4)
    arguments = [str(data), str(images / "rss" / folder_name), "AXT1", str(acceleration)]
    theirs = subprocess.run([PYTHON, "-c", PROGRAM, *arguments], check=True, capture_output=True, text=True).stdout
    found = json.loads(theirs.splitlines()[-1])
    for name in ("ssim", "psnr", "nmse"):
        mean, deviations = found[name]
        assert group[name]["mean"] == pytest.approx(mean, rel=1e-5)
        assert group[name]["two_std"] == pytest.approx(deviations, rel=1e-4)
