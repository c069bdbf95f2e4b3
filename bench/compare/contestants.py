"""Who is compared, and how each is started."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from recond_loadtest import TargetSettings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TRITON = ROOT / ".venv-triton"
LITSERVE = ROOT / ".venv-litserve" / "bin" / "python"
_SHAPES = ("recon_64x64", "recon_96x96", "recon_128x128", "recon_128x96")
_OUR_CODE = {"PYTHONPATH": ":".join(str(ROOT / room) for room in ("models", "kernels", "service", "proto"))}
_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server.

    Parameters
    ----------
    name
        In the table.
    settings
        How it is started and spoken to.
    variant
        One of several ways to run the same server, of which the best is compared.
    """

    name: str
    settings: TargetSettings
    variant: bool = False


def everyone(model: str, workers: int) -> list[Contestant]:
    """Return all that are installed here, recond first.

    Parameters
    ----------
    model
        Name of the model that all run.
    workers
        Processes of one thread that each may compute with.
    """
    python = sys.executable
    serve = (
        f"{python} -m recond_service serve --stop-with-stdin --listen 127.0.0.1:{{port}} "
        f"--metrics-listen 127.0.0.1:{{metrics_port}} --workers {workers} --compute-threads 1 --log-level error"
    )
    metrics = "http://127.0.0.1:{metrics_port}/metrics"
    common = f"--port {{port}} --model {model} --workers {workers}"
    found = [
        Contestant("recond (KServe)", TargetSettings("kserve", command=serve, metrics=metrics, environment=_PASSIVE)),
        Contestant(
            "recond (Reconstruct)", TargetSettings("recond", command=serve, metrics=metrics, environment=_PASSIVE)
        ),
        Contestant(
            "grpcio loop",
            TargetSettings("kserve", command=f"{python} {HERE / 'grpc_loop.py'} {common}", environment=_PASSIVE),
        ),
    ]
    if TRITON.is_dir():
        for delay in (-1, 0, 2, 10):
            for memory in (False, True):
                label = "off" if delay < 0 else f"{delay} ms"
                command = f"{python} {HERE / 'triton_rival.py'} {common} --delay {delay}"
                settings = TargetSettings(
                    "kserve", command=command, model="rival", shared_memory=memory, environment=_PASSIVE
                )
                name = f"Triton, batching {label}{', shared memory' if memory else ''}"
                found.append(Contestant(name, settings, variant=True))
        if workers > 1:  # four processes: with one thread for everyone they would have more than the others
            command = f"{python} {HERE / 'triton_rival.py'} {common} --delay 0 --shapes {','.join(_SHAPES)}"
            settings = TargetSettings(
                "kserve", command=command, model="recon_{rows}x{columns}", shared_memory=True, environment=_PASSIVE
            )
            found.append(Contestant("Triton, a model for each matrix", settings, variant=True))
    if LITSERVE.exists():
        for batch in (1, 8):
            command = f"{LITSERVE} {HERE / 'litserve_rival.py'} {common} --batch {batch}"
            settings = TargetSettings("http", command=command, encoding="json", environment=_PASSIVE | _OUR_CODE)
            found.append(Contestant(f"LitServe, batch {batch}", settings))
    return found
