"""Carries what the scheduler tells to metrics and spans."""

from __future__ import annotations

from recond_service.scheduling import BatchReport, Observer
from recond_service.telemetry import Metrics, Tracing


class SchedulerObserver(Observer):
    """Counts batches and frames, and makes spans of batches.

    Parameters
    ----------
    metrics
        Counts batches and frames.
    tracing
        Gets a span for each batch.
    """

    def __init__(self, metrics: Metrics, tracing: Tracing) -> None:
        self._metrics = metrics
        self._tracing = tracing

    def batch(self, report: BatchReport) -> None:
        """Take note that a batch was computed."""
        metrics = self._metrics
        metrics.batch_frames.labels(report.model).observe(report.size)
        metrics.batch_fill.observe(report.fill)
        metrics.batch_forming.observe(report.forming_seconds)
        metrics.batch_compute.labels(report.model).observe(report.seconds)
        if report.predicted_seconds > 0:
            metrics.batch_cost_ratio.observe(report.seconds / report.predicted_seconds)
        self._tracing.batch(
            {
                "recond.server": report.server,
                "recond.model": report.model,
                "recond.frames": report.size,
                "recond.coils": report.coils,
                "recond.predicted_seconds": report.predicted_seconds,
                "recond.compute_seconds": report.seconds,
            },
            report.ended - report.handed_over,
            report.links,
        )

    def frame(self, priority: str, queue_seconds: float, slack_seconds: float | None) -> None:
        """Take note that a frame was computed."""
        self._metrics.frame_queue.labels(priority.lower()).observe(queue_seconds)
        if slack_seconds is not None:
            self._metrics.deadline_slack.labels(priority.lower()).observe(slack_seconds)

    def again(self, why: str) -> None:
        """Take note that a frame has to wait again."""
        self._metrics.frames_again.labels(why).inc()

    def withdrawn(self, where: str) -> None:
        """Take note that a frame was withdrawn."""
        self._metrics.frames_withdrawn.labels(where).inc()
