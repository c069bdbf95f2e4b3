"""Memory of one service over thousands of reconstructions of mixed files: formats, sizes, models, and bad ones.

With ``--faults`` the worker is killed and stopped in turn meanwhile: then every good request has to get its images all the same.

Prints a table and writes it as JSON. Ends with 1 if the resident memory of front end or worker has grown by more than 1 %, or
their descriptors or processes have grown in number. Growth is from the first to the last quarter of the looks after the warm-up,
by their medians: a single look varies by some per cent with what was under way last.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import SIGKILL, SIGSTOP

import ismrmrd
import numpy as np
import psutil
from recond_testing import Service, fastmri_file, random_kspace, running

import recond_client
from recond_client import Client, RecondError, batches_of
from recond_models.simulate import write_ismrmrd
from recond_models.simulate.scan import ScanSettings, simulate

LARGEST_GROWTH = 0.01
SETTLE_SECONDS = 60.0
IDLE_SECONDS = 6.0  # after this long without work, processes have given back what they do not need
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where shm_open(3) of Linux keeps what it makes
Case = Callable[[Client], object]


@dataclass(frozen=True)
class Sample:
    """A process at one time; memory in bytes."""

    requests: int
    name: str
    rss: int
    uss: int
    descriptors: int
    threads: int


def cases(folder: Path) -> dict[str, Case]:
    """Requests by name, good and bad."""
    fully = fastmri_file(random_kspace(4, 8, 96, 80))
    half = fastmri_file(
        random_kspace(2, 4, 64, 64), mask=np.isin(np.arange(64) % 2, 0) | (abs(np.arange(64) - 32) < 10)
    )
    large = fastmri_file(random_kspace(3, 16, 256, 200))
    raw = folder / "raw.h5"
    settings = ScanSettings(phantom="shepp-logan", coils=6, slices=3, rows=96, columns=64, acceleration=2, noise=0.01)
    write_ismrmrd.write(simulate(settings), raw)
    stream = folder / "phantom.mrd2"
    options = ["-m", "64", "-c", "4", "-s", "2", "-r", "3", "-o", str(stream)]
    subprocess.run([sys.executable, "-m", "mrd.tools.phantom", *options], check=True)
    bart = folder / "scan"
    random_kspace(8, 64, 96).tofile(bart.with_suffix(".cfl"))
    bart.with_suffix(".hdr").write_text("# Dimensions\n96 64 1 8 1 1 1 1 1 1 1 1 1 1 1 1\n")
    with contextlib.closing(ismrmrd.Dataset(str(raw), "dataset", create_if_needed=False)) as dataset:
        xml = dataset.read_xml_header()
        acquisitions = [dataset.read_acquisition(number) for number in range(dataset.number_of_acquisitions())]
    rng = np.random.default_rng(1)
    array = random_kspace(2, 4, 48, 56)

    def streamed(client: Client) -> object:
        with client.stream(xml, batches_of(acquisitions), model="rss") as images:
            return images.result()

    def given_up(client: Client) -> object:
        return client.reconstruct(large, model="l1-wavelet", timeout=0.05)

    return {
        "fastmri rss": lambda client: client.reconstruct(fully, model="rss", outputs=(".h5", ".png")),
        "fastmri undersampled": lambda client: client.reconstruct(fully, model="rss", undersample="equispaced:4:0.08"),
        "fastmri cg-sense": lambda client: client.reconstruct(half, model="cg-sense"),
        "fastmri l1-wavelet": lambda client: client.reconstruct(half, model="l1-wavelet"),
        "fastmri large": lambda client: client.reconstruct(large, model="rss"),
        "ismrmrd": lambda client: client.reconstruct(raw, outputs=(".nii.gz", ".mrd")),
        "ismrmrd stream": streamed,
        "mrd2": lambda client: client.reconstruct(stream, model="rss", outputs=(".mrd",)),
        "bart": lambda client: client.reconstruct(bart.with_suffix(".cfl"), model="rss"),
        "array": lambda client: client.reconstruct(kspace=array, mask=np.ones(56), model="rss"),
        "bad: noise": lambda client: client.reconstruct(rng.bytes(50_000)),
        "bad: cut HDF5": lambda client: client.reconstruct(fully[: len(fully) // 2]),
        "bad: cut MRD 2": lambda client: client.reconstruct(stream.read_bytes()[:-9]),
        "bad: model": lambda client: client.reconstruct(fully, model="unheard-of"),
        "bad: deadline": given_up,
        "bad: file object ends": lambda client: client.reconstruct(io.BytesIO(b"\x89HDF\r\n\x1a\n")),
    }


def settled(service: Service) -> None:
    """Wait until nothing is under way."""
    end = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < end:
        state = service.metrics()
        if state["recond_requests_in_flight"] == 0 and state["recond_bytes_in_flight"] == 0:
            time.sleep(IDLE_SECONDS)
            return
        time.sleep(0.1)
    raise TimeoutError("the service does not come to rest")


def measured(service: Service, requests: int) -> Iterator[Sample]:
    """Look at the processes of a service at rest, which give freed memory back by then."""
    settled(service)
    front_end = psutil.Process(service.process.pid)
    for name, process in (("front end", front_end), ("worker", service.worker), ("zygote", service.zygote)):
        memory = process.memory_full_info()
        yield Sample(requests, name, memory.rss, memory.uss, process.num_fds(), process.num_threads())
    children = len(front_end.children(recursive=True))
    yield Sample(requests, "processes", 0, 0, children, 0)


def run(client: Client, case: Case) -> str:
    """Make one request; return what became of it."""
    try:
        case(client)
    except RecondError as error:
        return error.reason
    return "OK"


class Faults:
    """Kills and stops the worker of a service in turn, while requests are under way.

    Parameters
    ----------
    service
        Whose worker.
    every
        Seconds between two faults.
    """

    def __init__(self, service: Service, every: float) -> None:
        self._service = service
        self._every = every
        self._under_way = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faults")
        self.done: Counter[str] = Counter()

    def __enter__(self) -> Faults:
        if self._every:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._under_way.set()
        if self._every:
            self._thread.join()

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Let faults happen, but not while memory is being looked at."""
        self._under_way.set()
        try:
            yield
        finally:
            self._under_way.clear()

    def _run(self) -> None:
        for number in (SIGKILL, SIGSTOP) * 100_000:
            if self._over.wait(self._every):
                return
            self._under_way.wait()
            if self._over.is_set():
                return
            with contextlib.suppress(AssertionError, psutil.NoSuchProcess):
                self._service.worker.send_signal(number)
                self.done[number.name] += 1


def growth(samples: list[Sample], name: str, field: str, warm_up: int) -> float:
    """Return how much a process has grown from the first to the last quarter of the looks after the warm-up, as a fraction."""
    values = [getattr(sample, field) for sample in samples if sample.name == name and sample.requests >= warm_up]
    quarter = max(1, len(values) // 4)
    before, after = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
    return after / before - 1 if before else 0.0


def show(sample: Sample) -> None:
    """Print a line of the table."""
    if sample.name != "processes":
        print(
            f"{sample.requests:6d}  {sample.name:10s} {sample.rss / 1e6:8.1f} {sample.uss / 1e6:8.1f} "
            f"{sample.descriptors:6d} {sample.threads:6d}",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--warm-up", type=int, default=300)
    parser.add_argument(
        "--every", type=int, default=100, help="requests between two looks, each after some idle seconds"
    )
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=0.0, help="go on for this long, however many requests that is")
    parser.add_argument("--faults", type=float, default=0.0, help="seconds between faults of the worker, 0 for none")
    parser.add_argument("--json", type=Path, default=Path("out/soak.json"))
    options = parser.parse_args()

    samples: list[Sample] = []
    outcomes: Counter[str] = Counter()
    print(f"{'after':>6s}  {'process':10s} {'RSS/MB':>8s} {'USS/MB':>8s} {'files':>6s} {'threads':>6s}")
    with tempfile.TemporaryDirectory() as name, running(Path(name) / "log", "--log-level", "info") as service:
        requests = list(cases(Path(name)).items())
        retry = recond_client.RetryPolicy(attempts=1)
        started = time.monotonic()
        shared_before = set(SHARED_MEMORY.iterdir())
        with (
            Client(service.address, retry=retry) as client,
            concurrent.futures.ThreadPoolExecutor(options.at_once) as threads,
            Faults(service, options.faults) as faults,
        ):
            client.wait_until_ready()
            done = 0
            while time.monotonic() - started < 60 * options.minutes if options.minutes else done < options.requests:
                batch = [requests[number % len(requests)] for number in range(done, done + options.every)]
                with faults.allowed():
                    found = threads.map(lambda request: f"{request[0]}: {run(client, request[1])}", batch)
                    outcomes.update(found)
                done += len(batch)
                for sample in measured(service, done):
                    samples.append(sample)
                    show(sample)
        seconds = time.monotonic() - started
        left = sorted(path.name for path in set(SHARED_MEMORY.iterdir()) - shared_before)

    grown = {
        f"{process}, {field}": growth(samples, process, field, options.warm_up)
        for process in ("front end", "worker", "zygote")
        for field in ("rss", "uss", "descriptors")
    }
    grown["processes"] = growth(samples, "processes", "descriptors", options.warm_up)
    print(
        f"\n{done} requests in {seconds:.0f} s, faults: {dict(faults.done)}, shared memory left: {left}; "
        f"growth from request {options.warm_up} on:"
    )
    for key, value in grown.items():
        print(f"  {key:24s} {value:+.2%}")
    for key, count in sorted(outcomes.items()):
        print(f"  {count:5d} x {key}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    report = {"seconds": seconds, "growth": grown, "outcomes": outcomes, "samples": [asdict(each) for each in samples]}
    report |= {"faults": faults.done, "shared_memory_left": left}
    options.json.write_text(json.dumps(report, indent=1))
    limits = {key: LARGEST_GROWTH if "descriptors" not in key and key != "processes" else 0.0 for key in grown}
    over = [
        key for key, value in grown.items() if value > limits[key] and not key.startswith("zygote") and "uss" not in key
    ]
    if over:
        print(f"grown too much: {', '.join(over)}")
    failed = [key for key in outcomes if not key.startswith("bad: ") and not key.endswith(": OK")]
    if failed:
        print(f"good requests that failed: {', '.join(failed)}")
    return 1 if over or failed or left else 0


if __name__ == "__main__":
    sys.exit(main())
