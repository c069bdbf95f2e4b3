"""The command, the JSON and the pages, from real runs."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from recond_testing import Service
from waiting import eventually

from recond_client.cli import main
from recond_loadtest import ResultError, RunResult
from recond_loadtest.ledger import RequestRecord
from recond_loadtest.prometheus import Distribution, ServerMetrics
from recond_loadtest.report import comparison_page, run_page
from recond_loadtest.report.compare import compare
from recond_loadtest.result import SCHEMA, EventRecord, HealthChange, Probe, SendLag, TargetUsage
from recond_loadtest.scenario import parse_scenario

_SCENARIO = """
description = "Two classes <of> slices"
duration = 2.5
warm_up = 0.3
model = "rss"
[generator]
lag_seconds = 0.5
[arrivals]
rate = 20.0
[faults]
poison = 0.1
[[classes]]
name = "one"
inputs = [{ coils = 2, rows = 32, columns = 32, calibration_lines = 8 }]
[[classes]]
name = "two"
inputs = [{ coils = 4, rows = 48, columns = 32, calibration_lines = 8 }]
deadline = 5.0
"""


def loadtest(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["loadtest", *map(str, arguments)])
    return result.exit_code, result.output


class _Page(html.parser.HTMLParser):
    """Tags that are opened and closed, and what a page would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.fetched: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in {"meta", "br"}:
            self.open.append(tag)
        self.fetched += [
            value
            for name, value in attributes
            if name in {"src", "href", "xlink:href"} and value and not value.startswith(("#", "data:"))
        ]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loadtest")
    scenario = folder / "mine.toml"
    scenario.write_text(_SCENARIO)
    listening = eventually(lambda: service.events("listening"))  # it comes after the line that the service prints
    port = listening[0]["metrics_port"]
    page = folder / "run.html"
    metrics = f"http://127.0.0.1:{port}/metrics"
    code, said = loadtest("--scenario", scenario, "--server", service.address, "--metrics", metrics, "-o", page)
    assert code == 0, said
    assert "mine: valid, 2.5 s" in said
    assert "x INVALID_ARGUMENT" in said
    return page


def test_the_page_is_whole_and_needs_nothing_else(report: Path) -> None:
    text = report.read_text()
    page = _Page(text)
    assert page.open == []
    assert page.fetched == []
    assert page.count["svg"] >= 4
    assert "Two classes &lt;of&gt; slices" in text
    for plot in ("Latency by percentile", "Load over time", "Requests over time", "Mean time per request and stage"):
        assert f"<!-- {plot}" in text
    assert "INVALID_ARGUMENT" in text
    assert "@import" not in text


def test_the_json_says_what_the_page_says(report: Path) -> None:
    data = json.loads(report.with_suffix(".json").read_text())
    assert data["schema"] == SCHEMA
    everything = data["summary"]["all"]
    outcomes = everything["outcomes"]
    measured = data["records"]["measured"]
    assert len(set(map(len, data["records"].values()))) == 1
    assert outcomes["requests"] == sum(measured)
    assert outcomes["ok"] + outcomes["error"] == outcomes["requests"]
    assert outcomes["lost"] == outcomes["wrong"] == outcomes["innocent_failures"] == 0
    assert sum(error["count"] for error in outcomes["errors"]) == outcomes["error"] > 0
    assert everything["latency"]["p99"] is None
    assert everything["latency"]["p50"] > 0
    assert set(data["summary"]["classes"]) == {"one", "two"}
    assert data["server"]["histograms"]
    result = RunResult.from_json(data)
    assert result.latency().quantiles[0.5] == everything["latency"]["p50"]
    assert result.to_json() == data


def test_two_runs_beside_each_other(report: Path, tmp_path: Path) -> None:
    path = report.with_suffix(".json")
    run = RunResult.load(path)
    slower = dataclasses.replace(
        run, records=tuple(dataclasses.replace(one, end=(one.end or 0) + 1.0) for one in run.records)
    )
    slower.save(tmp_path / "slow.json")
    code, said = loadtest("--compare", path, tmp_path / "slow.json")
    assert code == 0
    figures = {figure["name"]: figure for figure in json.loads(said)}
    assert figures["latency p50"]["ratio"] > 2
    assert figures["throughput, requests/s"]["ratio"] == 1
    assert figures["throughput, requests/s"]["interval"] is None, "two seconds are no sample"
    code, _ = loadtest("--compare", path, tmp_path / "slow.json", "-o", tmp_path / "both.html")
    page = _Page((tmp_path / "both.html").read_text())
    assert code == 0
    assert page.open == page.fetched == []


def synthetic(latency: float) -> RunResult:
    """A run of forty seconds with everything that a page can show."""
    scenario = parse_scenario("duration = 40\nwarm_up = 2\n[arrivals]\nrate = 10\n[[classes]]\nname = 'a'", "synthetic")
    records = tuple(
        RequestRecord(n, "a", "", 1, n / 10, n >= 20, sent=n / 10, end=n / 10 + latency * (1 + n % 7), outcome="ok")
        for n in range(420)
    )
    return RunResult(
        scenario=scenario.to_json(),
        target={"kind": "recond", "address": "here", "command": ""},
        started="2026-01-01T00:00:00+00:00",
        machine={"cpu": "c", "cores": 2, "memory_bytes": 1 << 30, "system": "s", "python": "3", "packages": {}}
        | {"generator_nice": 0, "load_before": 0.0, "cpu_pressure_before": ""},
        window=(2.0, 42.0),
        records=records,
        lag=SendLag(0.0, 0.001, 0.002, 0.02),
        generator_cpu_seconds=1.0,
        usage=TargetUsage(30.0, 1 << 28, 1 << 27, 3.0, ((1.0, 1.0, 1 << 28), (2.0, 1.5, 1 << 28))),
        events=(EventRecord(12.0, "kill", "worker", 42),),
        health=(HealthChange(0.0, "serving"), HealthChange(12.05, "not-serving"), HealthChange(14.0, "serving")),
        probes=(Probe(5.0, 0.1, 100, 0, True), Probe(9.0, 0.9, 100, 0, False)),
    )


def test_intervals_and_recovery() -> None:
    first, second = synthetic(0.01), synthetic(0.02)
    figures = {figure.name: figure for figure in compare(first, second)}
    median = figures["latency p50"]
    assert median.ratio == pytest.approx(2, rel=0.01)
    assert median.interval is not None
    assert median.interval[0] <= 2.001
    assert median.interval[1] >= 1.999
    assert figures["latency p99"].first is None, "400 samples are too few"
    assert _Page(comparison_page(first, second, ("a", "b"))).open == []
    (recovery,) = first.recoveries()
    assert recovery.unhealthy == pytest.approx(0.05)
    assert recovery.healthy == pytest.approx(2.0)
    assert recovery.first_success == pytest.approx(0.1 + 0.01 * (1 + 121 % 7))
    assert _Page(run_page(first)).count["svg"] >= 5


def test_the_page_shows_the_quality_of_the_images_that_the_target_counted() -> None:
    run = synthetic(0.01)
    assert "Quality of the images" not in run_page(dataclasses.replace(run, server=ServerMetrics()))
    figures = (
        Distribution("recond_figure_ssim_object", {}, 4.0, 3.8),
        Distribution("recond_batch_frames", {}, 1.0, 1.0),
    )
    page = run_page(dataclasses.replace(run, server=ServerMetrics(figures)))
    shown = page[page.index("Quality of the images") : page.index("What the target counted")]
    assert ">ssim object<" in shown
    assert "0.95" in shown
    assert "frames" not in shown


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "give --scenario, --list or --compare"),
        (("--scenario", "none"), 2, "neither a file nor one of"),
        (("--scenario", "coil-mix", "--server", "a:1", "--command", "b"), 2, "not both"),
        (("--scenario", "coil-mix", "--write-trace", "t.csv"), 2, "say --peak as well"),
        (("--scenario", "offline", "--write-trace", "t.csv"), 2, "only open runs have"),
        (("--scenario", "coil-mix", "-o", "run.json"), 2, "give an .html file"),
        (("--scenario", "coil-mix", "-o", "no/such/folder/run.html"), 2, "in a folder that exists"),
        (("--scenario", "coil-mix", "--command", "false"), 4, "the target ended before it was ready"),
    ],
)
def test_usage(arguments: tuple[str, ...], code: int, said: str) -> None:
    got, output = loadtest(*arguments)
    assert got == code, output
    assert said in output


def test_list_and_trace(tmp_path: Path) -> None:
    code, said = loadtest("--list")
    assert code == 0
    assert re.search(r"^four-matrices +Single slices", said, re.MULTILINE)
    code, said = loadtest("--scenario", "coil-mix", "--peak", "10", "--write-trace", tmp_path / "t.csv")
    assert code == 0
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert f"{len(lines) - 1} requests" in said


def test_other_files_are_no_results(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    for content in ("[]", "{}", '{"schema": "recond-loadtest/99"}', f'{{"schema": "{SCHEMA}"}}', "no json"):
        path.write_text(content)
        with pytest.raises(ResultError):
            RunResult.load(path)
        code, said = loadtest("--compare", path, path)
        assert code == 2
        assert "recond loadtest: " in said
