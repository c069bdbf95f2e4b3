"""What was noticed in the data. The one list that the doctor, the response and the log show."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


class Severity(enum.IntEnum):
    """How serious a finding is (values as on the wire)."""

    INFO = 1
    WARNING = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """Something noticed, and what was done about it.

    Parameters
    ----------
    code
        Stable name in kebab-case, such as ``"noise-scan-missing"``.
    severity
        INFO: worth knowing. WARNING: the image may differ from what was expected.
    message
        One sentence for people.
    count
        How often it happened.
    """

    code: str
    severity: Severity
    message: str
    count: int = 1


class FindingList:
    """Findings in the order of their first appearance; a code that comes again adds to the count of the first."""

    def __init__(self, findings: Iterable[Finding] = ()) -> None:
        self._by_code: dict[str, Finding] = {}
        for finding in findings:
            self.add(finding)

    def add(self, finding: Finding) -> None:
        """Add a finding, or its count where its code is already there."""
        first = self._by_code.get(finding.code)
        self._by_code[finding.code] = (
            finding
            if first is None
            else Finding(first.code, max(first.severity, finding.severity), first.message, first.count + finding.count)
        )

    def info(self, code: str, message: str, count: int = 1) -> None:
        """Add something worth knowing."""
        self.add(Finding(code, Severity.INFO, message, count))

    def warn(self, code: str, message: str, count: int = 1) -> None:
        """Add something that may change the image."""
        self.add(Finding(code, Severity.WARNING, message, count))

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._by_code.values())

    def __len__(self) -> int:
        return len(self._by_code)

    def __contains__(self, code: object) -> bool:
        return code in self._by_code
