"""`make compare`: recond beside a plain gRPC loop, a tuned Triton and LitServe, with one load generator, in one run.

Everyone has the same weights, threads and inputs. One is up at a time; rounds are rotated, and ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

import contestants
import table
from contestants import Contestant
from measure import Measured, measure_rate, measure_round, tune

from recond_loadtest import parse_scenario, prepare_inputs

ROOT = Path(__file__).resolve().parents[2]
ONE_SHAPE = "inputs = [{ coils = 8, rows = 128, columns = 128 }]"
FOUR_SHAPES = """inputs = [
  { coils = 4, rows = 64, columns = 64 }, { coils = 8, rows = 64, columns = 64 },
  { coils = 6, rows = 96, columns = 96 }, { coils = 12, rows = 96, columns = 96 },
  { coils = 8, rows = 128, columns = 128 }, { coils = 16, rows = 128, columns = 128 },
  { coils = 5, rows = 128, columns = 96 }, { coils = 8, rows = 128, columns = 96 },
]"""


def scenario_text(inputs: str, model: str, requests: int, name: str) -> str:
    """Return a scenario for the offline phase."""
    return f"""
name = "{name}"
mode = "offline"
model = "{model}"
seed = 11
[peak]
requests = {requests}
outstanding = 16
warm_up = 32
[[classes]]
name = "slices"
{inputs}
"""


def bare(text: str, model: str, workers: int) -> float:
    """Return frames per second of the batch core alone, in so many processes at once."""
    command = [sys.executable, str(contestants.HERE / "bare.py"), "--scenario", text, "--model", model]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(workers)]
    answers = [process.communicate(timeout=300)[0] for process in running]
    return sum(float(json.loads(answer.splitlines()[-1])["frames_per_second"]) for answer in answers)


def main() -> None:
    """Tune Triton, run the rounds, write the table."""
    parser = argparse.ArgumentParser(prog="make compare", description=__doc__)
    parser.add_argument("--model", default="unrolled-brain-fast")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread that each server computes with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=300, help="of each offline phase")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each open phase")
    parser.add_argument("--only", nargs="*", default=[], help="contestants, by name")
    parser.add_argument("--results", type=Path, default=ROOT / "out" / "compare.json")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "performance.md")
    options = parser.parse_args()
    mixed = parse_scenario(scenario_text(FOUR_SHAPES, options.model, options.requests, "four matrices"))
    single_text = scenario_text(ONE_SHAPE, options.model, options.requests, "one shape")
    single = parse_scenario(single_text)
    inputs = prepare_inputs(mixed) | prepare_inputs(single)

    field = contestants.everyone(options.model, options.workers)
    tried = [each for each in field if each.variant]
    print(f"tuning Triton: {len(tried)} variants", flush=True)
    tuning = tune(tried, mixed, inputs)
    best = max(tuning, key=tuning.__getitem__) if tuning else ""
    field = [each for each in field if not each.variant or each.name == best]
    field = [each for each in field if not options.only or each.name in options.only or each.variant]
    print(f"best variant: {best or 'none'}", flush=True)

    rounds: list[dict[str, Measured]] = []
    bares: list[float] = []
    rate = 0.0
    for number in range(options.rounds):
        bares.append(bare(single_text, options.model, options.workers))
        print(f"round {number + 1}: bare batch core {bares[-1]:.2f} frames/s", flush=True)
        order: list[Contestant] = field[number % len(field) :] + field[: number % len(field)]
        if not rate:
            rate = 0.7 * measure_rate(field[0], mixed, inputs)
        rounds.append(measure_round(order, single, mixed, inputs, rate, options.seconds))
        options.results.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "settings": {
                "model": options.model,
                "workers": options.workers,
                "rate": rate,
                "command": shlex.join(sys.argv),
            },
            "tuning": tuning,
            "bare": bares,
            "rounds": [{name: each.to_json() for name, each in one.items()} for one in rounds],
        }
        options.results.write_text(json.dumps(record, indent=2))
    table.write(record, options.report)
    print(f"written: {options.report}")


if __name__ == "__main__":
    main()
