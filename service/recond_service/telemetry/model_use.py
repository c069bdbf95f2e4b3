"""How every version of every model did since the service was started."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ModelUse:
    """How a version of a model did.

    Attributes
    ----------
    requests
        Requests that ended.
    failures
        Those of them that failed.
    seconds
        Sum over the others.
    residual, residuals
        Sum of the data-consistency residuals, and the number of requests that have one.
    """

    requests: int = 0
    failures: int = 0
    seconds: float = 0.0
    residual: float = 0.0
    residuals: int = 0

    @property
    def mean_seconds(self) -> float:
        """Mean seconds of the requests that went well; 0 if there are none."""
        return self.seconds / max(self.requests - self.failures, 1)

    @property
    def mean_residual(self) -> float:
        """Mean residual of those that have one; 0 if there are none."""
        return self.residual / max(self.residuals, 1)

    def ended(self, seconds: float, residual: float | None) -> None:
        """Count a request that went well."""
        self.requests += 1
        self.seconds += seconds
        if residual is not None:
            self.residual += residual
            self.residuals += 1

    def failed(self) -> None:
        """Count a request that failed."""
        self.requests += 1
        self.failures += 1
