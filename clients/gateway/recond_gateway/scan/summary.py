"""The line that ends a session."""

from __future__ import annotations

from recond_client.errors import RecondError
from recond_client.heads import HeadResult
from recond_gateway.scan.delivery import Outcome
from recond_gateway.scan.scan import Scan

_MOST_INCOMPLETE = 8


def summary_line(scan: Scan, outcome: Outcome, seconds: float) -> str:
    """Return what a scan came to: what was received and used, images, time, figures.

    Parameters
    ----------
    scan
        Its groups and counts.
    outcome
        What came of it.
    seconds
        From its header to its last image.
    """
    groups = scan.groups
    received = f"{groups.received} acquisitions received, {groups.used} used"
    dropped = [f"{count} {name}" for name, count in groups.dropped.items() if count]
    if dropped:
        received += f", {sum(groups.dropped.values())} dropped ({', '.join(dropped)})"
    beside = [f"{count} {kind} not used" for kind, count in scan.counts.items() if count]
    images = f"{outcome.images} images"
    if outcome.fallbacks:
        images += f" ({outcome.fallbacks} of them by a classical model in place of the one that was asked for)"
    parts = [f"recond scan {scan.scan_id}", received, *beside, images, f"{seconds:.1f} s"]
    result = outcome.result
    if result is not None:
        figures = [f"{name.replace('_', ' ')} {value:.3g}" for name, value in result.figures.applicable().items()]
        parts += [f"model {result.model} {result.version}".rstrip(), *figures]
    return "; ".join(parts)


def error_line(error: RecondError, scan_id: str = "") -> str:
    """Return what to tell the operator about an error: what and what to do, and by which names to find it in the logs."""
    facts = [error.reason or error.status]
    if scan_id:
        facts.append(f"scan {scan_id}")
    if error.request_id:
        facts.append(f"request {error.request_id}")
    return f"{error} ({', '.join(facts)})"


def incomplete_line(scan: Scan) -> str:
    """Return which images lack lines; empty if none does."""
    incomplete = scan.groups.incomplete()
    if not incomplete:
        return ""
    told = "; ".join(str(each) for each in incomplete[:_MOST_INCOMPLETE])
    more = f"; and {len(incomplete) - _MOST_INCOMPLETE} more" if len(incomplete) > _MOST_INCOMPLETE else ""
    return f"Images that lack lines: {told}{more}"


def head_line(result: HeadResult) -> str:
    """Return what a head says, in a line."""
    name = f"{result.head} {result.version}"
    if result.refusal:
        return f"{name} did not run: {result.problem}"
    if result.answers:
        return f"{name}: " + ", ".join(f"{group} {answer}" for group, answer in result.answers.items())
    total = result.measured("volume")
    found = [f"{len(result.instances)} found"] if result.task == "lesions" else []
    if total is not None:
        found.append(f"{total:.3g} mL in total")
    for label, value in result.labels.items():
        volume = result.measured("volume", value)
        if volume is not None and result.task == "segmentation":
            found.append(f"{label} {volume:.3g} mL")
    return f"{name}: " + ", ".join(found)
