"""The batch core alone, in a process of its own: the frames of a scenario one after another, no server."""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from core import Core

from recond_loadtest import parse_scenario, prepare_inputs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenario", required=True, help="text of a scenario")
    parser.add_argument("--model", required=True)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    core = Core(options.model, 1)
    frames = []
    for scan in prepare_inputs(parse_scenario(options.scenario)).values():
        mask = np.broadcast_to(scan.lines, scan.kspace.shape[2:])
        frames += [(kspace, mask) for kspace in scan.kspace]
    for kspace, mask in frames * 3:  # compiled networks take over after the first few
        core.reconstruct([kspace], [mask])
    time.sleep(3.0)
    for kspace, mask in frames * 2:
        core.reconstruct([kspace], [mask])
    done, begun, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < options.seconds:
        kspace, mask = frames[done % len(frames)]
        core.reconstruct([kspace], [mask])
        done += 1
    seconds = time.perf_counter() - begun
    print(json.dumps({"frames_per_second": done / seconds, "cpu_per_frame": (time.process_time() - cpu) / done}))


if __name__ == "__main__":
    main()
