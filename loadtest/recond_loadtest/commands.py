"""The command ``recond loadtest``."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from pathlib import Path
from typing import Final

import click

from recond_loadtest.progress import progress_line
from recond_loadtest.result import ResultError, RunResult
from recond_loadtest.run import run
from recond_loadtest.scenario import Scenario, load_scenario, shipped
from recond_loadtest.schedule import draw
from recond_loadtest.target_settings import OWN_GATEWAY, OWN_SERVICE, TargetSettings
from recond_loadtest.text import number_text, seconds_text
from recond_loadtest.toml_reader import ScenarioError
from recond_loadtest.trace import write_trace
from recond_loadtest.wires import WireError

EXIT_USAGE: Final = 2
EXIT_UNAVAILABLE: Final = 4
EXIT_FAILED: Final = 5
_TERMINATED: Final = 143


@click.command()
@click.option("--scenario", "scenario_name", metavar="NAME|FILE", help="A shipped scenario, or a TOML file.")
@click.option("--list", "list_only", is_flag=True, help="List the shipped scenarios and exit.")
@click.option("--server", metavar="HOST:PORT", help="Drive what listens there, in place of the target of the scenario.")
@click.option("--command", metavar="COMMAND", help="Start this target; {port} and {metrics_port} become free ports.")
@click.option("--kind", type=click.Choice(["recond", "kserve", "http", "mrd"]), help="What the target speaks.")
@click.option("--metrics", metavar="URL", help="Prometheus metrics of the target.")
@click.option(
    "--target-model", metavar="NAME", help="Model of a KServe target; may hold {model}, {rows}, {columns}, {coils}."
)
@click.option("--model", metavar="NAME", help="Model, for classes that name none.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Seconds that are measured.")
@click.option("--seed", type=click.IntRange(min=0), help="What the schedule is drawn from.")
@click.option(
    "--peak", type=click.FloatRange(min=0, min_open=True), help="Peak requests/s for relative loads, not measured."
)
@click.option(
    "--write-trace", type=click.Path(dir_okay=False, path_type=Path), help="Write the schedule (CSV) and exit."
)
@click.option(
    "--compare",
    nargs=2,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="A.json B.json",
    help="Show two runs beside each other in place of a run.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page (.html); the JSON lies beside it. Default: named after the scenario, in the current folder.",
)
def loadtest(
    scenario_name: str | None,
    *,
    list_only: bool,
    server: str | None,
    command: str | None,
    kind: str | None,
    metrics: str | None,
    target_model: str | None,
    model: str | None,
    duration: float | None,
    seed: int | None,
    peak: float | None,
    write_trace: Path | None,
    compare: tuple[Path, Path] | None,
    output: Path | None,
) -> None:
    """Drive a service at a given load, and write a page and a JSON about it.

    Without --server or --command, and without a target in the scenario, a service of this installation is started for the run.

    Exit codes: 0 done, 2 usage, 4 target unavailable, 5 the run is void, or requests were lost or got wrong images.
    """
    if list_only:
        for name, description in shipped().items():
            click.echo(f"{name:15} {description}")
        return
    try:
        if compare is not None:
            sys.exit(_compare(*compare, output))
        if scenario_name is None:
            raise ScenarioError("give --scenario, --list or --compare")
        scenario = load_scenario(scenario_name)
        replaced = {"model": model, "duration": duration, "seed": seed}
        scenario = dataclasses.replace(scenario, **{key: value for key, value in replaced.items() if value is not None})  # type: ignore[arg-type]
        target = _target(
            scenario.target, server=server, command=command, kind=kind, metrics=metrics, model=target_model
        )
        scenario = dataclasses.replace(scenario, target=target)
        if write_trace is not None:
            _write_schedule(scenario, write_trace, peak)
            return
        sys.exit(_run(scenario, peak, output))
    except (ScenarioError, ResultError) as error:
        _fail(str(error), EXIT_USAGE)
    except WireError as error:
        _fail(str(error), EXIT_UNAVAILABLE)
    except OSError as error:
        _fail(str(error), EXIT_USAGE)


def _page_path(output: Path | None, default: str) -> Path:
    """Return where the page goes; what cannot be written there is an error before the run."""
    page = output or Path(default)
    if page.suffix != ".html" or not page.parent.is_dir():
        raise ScenarioError(f"--output {page}: give an .html file in a folder that exists")
    return page


def _fail(message: str, code: int) -> None:
    click.echo(f"recond loadtest: {message}", err=True)
    sys.exit(code)


def _target(
    settings: TargetSettings | None,
    *,
    server: str | None,
    command: str | None,
    kind: str | None,
    metrics: str | None,
    model: str | None,
) -> TargetSettings:
    """Return the target of the scenario, with what the command line says in its place."""
    if server is not None and command is not None:
        raise ScenarioError("give --server or --command, not both")
    changes: dict[str, str | None] = {"kind": kind, "metrics": metrics, "model": model}
    if server is not None:
        settings = TargetSettings(
            address=server,
            kind=settings.kind if settings else "recond",
            model=settings.model if settings else "{model}",
            pad_coils=settings.pad_coils if settings else 0,
            shared_memory=settings.shared_memory if settings else False,
        )
    elif settings is None:
        settings = OWN_GATEWAY if kind == "mrd" else OWN_SERVICE
    if command is not None:
        changes["command"] = command
    return dataclasses.replace(settings, **{key: value for key, value in changes.items() if value is not None})  # type: ignore[arg-type]


def _write_schedule(scenario: Scenario, path: Path, peak: float | None) -> None:
    if scenario.mode != "open":
        raise ScenarioError(f"mode: {scenario.mode!r} has no schedule; only open runs have")
    if scenario.relative and peak is None:
        raise ScenarioError("load: it is relative to the peak; say --peak as well")
    schedule = draw(scenario, peak)
    write_trace(path, schedule)
    click.echo(f"{path}: {len(schedule)} requests")


def _run(scenario: Scenario, peak: float | None, output: Path | None) -> int:
    from recond_loadtest.report import run_page  # noqa: PLC0415 - matplotlib takes a second, and not before the run

    page = _page_path(output, f"loadtest-{scenario.name}.html")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))  # so that a target that was started is ended
    with progress_line() as progress:
        result = run(scenario, peak=peak, progress=progress)
    result.save(page.with_suffix(".json"))
    page.write_text(run_page(result), encoding="utf-8")
    click.echo(_summary(result))
    for reason in result.void:
        click.echo(f"void: {reason}", err=True)
    click.echo(f"{page}, {page.with_suffix('.json')}")
    return EXIT_FAILED if result.failed else 0


def _compare(first: Path, second: Path, output: Path | None) -> int:
    from recond_loadtest.report import comparison_page  # noqa: PLC0415 - as above
    from recond_loadtest.report.compare import compare  # noqa: PLC0415

    runs = RunResult.load(first), RunResult.load(second)
    names = (first.stem, second.stem) if first.stem != second.stem else (str(first), str(second))
    if output is None:
        # Figures for programs; the page is for people.
        click.echo(json.dumps([figure.to_json() for figure in compare(*runs)], indent=2))
    else:
        _page_path(output, "").write_text(comparison_page(*runs, names), encoding="utf-8")
        click.echo(str(output))
    return EXIT_FAILED if any(result.failed for result in runs) else 0


def _summary(result: RunResult) -> str:
    """Return a run in a few lines."""
    rates, outcomes, latency = result.rates(), result.outcomes(), result.latency()
    quantiles = ", ".join(
        f"p{100 * quantile:g} {'n too small' if value is None else seconds_text(value)}"
        for quantile, value in latency.quantiles.items()
    )
    counts = (
        f"{outcomes.ok} ok",
        f"{outcomes.error} errors",
        f"{outcomes.cancelled} cancelled",
        f"{outcomes.lost} lost",
        f"{outcomes.wrong} of {outcomes.compared} wrong",
        f"{outcomes.innocent_failures} failed without a fault",
    )
    per_second = {
        "offered": rates.offered,
        "ok": rates.throughput,
        "good": rates.goodput,
        "images": rates.frames,
    }
    lines = [
        f"{result.scenario['name']}: {'void' if result.void else 'valid'}, {result.seconds:.1f} s",
        f"requests   {outcomes.requests}: {', '.join(counts)}",
        f"per second {', '.join(f'{number_text(value)} {name}' for name, value in per_second.items())}",
        f"latency    {quantiles}, max {seconds_text(latency.largest)}",
        f"send lag   p99 {seconds_text(result.lag.p99)}, bound {seconds_text(result.lag.bound)}",
    ]
    lines += [f"error      {count} x {status} {reason}" for (status, reason), count in outcomes.errors.items()]
    if result.probes:
        best = max((probe.rate for probe in result.probes if probe.passed), default=None)
        lines.append(f"highest    {number_text(best)} requests/s hold the limit, of {len(result.probes)} rates tried")
    lines += [
        f"fault      {one.event.action} at {one.event.at:.1f} s: first success after {seconds_text(one.first_success)}, "
        f"health bad after {seconds_text(one.unhealthy)}, good after {seconds_text(one.healthy)}"
        for one in result.recoveries()
    ]
    return "\n".join(lines)
