"""Which lines of k-space came: a bit for each, because a scan in real time has thousands of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Lines:
    """A set of lines.

    Parameters
    ----------
    partitions
        By partition, an integer whose bit n stands for line n.
    """

    partitions: dict[int, int] = field(default_factory=dict)

    @classmethod
    def between(cls, lines: tuple[int, int], partitions: tuple[int, int]) -> Lines:
        """Return all lines of a range in all partitions of a range, both ends included."""
        bits = (1 << (lines[1] + 1)) - (1 << lines[0])
        return cls(dict.fromkeys(range(partitions[0], partitions[1] + 1), bits))

    def add(self, partitions: Iterable[int], lines: Iterable[int]) -> None:
        """Add lines, each with its partition."""
        for partition, line in zip(partitions, lines, strict=True):
            self.partitions[partition] = self.partitions.get(partition, 0) | 1 << line

    def update(self, other: Lines) -> None:
        """Add those of another set."""
        for partition, bits in other.partitions.items():
            self.partitions[partition] = self.partitions.get(partition, 0) | bits

    def without(self, other: Lines) -> Iterator[tuple[int, int]]:
        """Yield partition and line of those that another set does not have, in order and one by one: there may be billions."""
        for partition in sorted(self.partitions):
            bits = self.partitions[partition] & ~other.partitions.get(partition, 0)
            while bits:
                lowest = bits & -bits
                yield partition, lowest.bit_length() - 1
                bits ^= lowest

    def __len__(self) -> int:
        return sum(bits.bit_count() for bits in self.partitions.values())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Partition and line of each, in order."""
        return self.without(Lines())
