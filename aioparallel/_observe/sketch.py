"""Quantiles of durations without keeping them: counts in buckets.

Guarantees
    A quantile is within 3.2 % of one that sorting all values would give, whatever their distribution; no value is dropped.

How it works
    Log-linear buckets, as those of HdrHistogram (G. Tene, hdrhistogram.org): sixteen of equal width between a power of two and the next.
    In a double (IEEE 754, binary64) the first 16 bits are the sign, the exponent and four bits of the mantissa, so they are the number of
    the bucket, and many values are sorted without a computation.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from math import ceil

MAX_ROWS = 16
"""So many buckets a histogram shows at the most."""
_FIRST = 3 if sys.byteorder == "little" else 0


def buckets_of(seconds: array[float]) -> list[int]:
    """Return the bucket of each value; what is below 0 counts as 0."""
    if min(seconds) < 0:
        seconds = array("d", [max(0.0, value) for value in seconds])
    with memoryview(seconds) as doubles, doubles.cast("B") as octets, octets.cast("H") as halves:
        return halves[_FIRST::4].tolist()


def edge(bucket: int) -> float:
    """Return where a bucket begins."""
    value: float = struct.unpack(">d", bucket.to_bytes(2, "big") + bytes(6))[0]
    return value


class Span:
    """The least, the most and the sum of some values."""

    __slots__ = ("least", "most", "total")

    def __init__(self) -> None:
        self.least, self.most, self.total = float("inf"), 0.0, 0.0

    def take(self, seconds: Sequence[float]) -> None:
        """Take values in; what is below 0 counts as 0."""
        least, most = min(seconds), max(seconds)
        self.least = min(self.least, max(0.0, least))
        self.most = max(self.most, most)
        self.total += max(0.0, sum(seconds))


class Sketch:
    """Counts by bucket."""

    __slots__ = ("_at", "_p95", "count", "counts")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.count = 0
        self._at, self._p95 = 0, float("inf")

    def add(self, counts: Mapping[int, int]) -> None:
        """Count values, by their buckets."""
        own = self.counts
        for bucket, count in counts.items():
            own[bucket] = own.get(bucket, 0) + count
        self.count += sum(counts.values())

    def copy(self) -> Sketch:
        """Return what it holds now."""
        same = Sketch()
        same.counts, same.count = self.counts.copy(), self.count
        return same

    def quantiles(self, *shares: float) -> list[float | None]:
        """Return the values below which these shares (ascending, 0..1) of all lie; None until there are two."""
        if self.count < 2:
            return [None] * len(shares)
        found: list[float | None] = []
        below = 0
        buckets = iter(sorted(self.counts.items()))
        bucket = 0
        for share in shares:
            rank = max(1, ceil(share * self.count))
            while below < rank:
                bucket, count = next(buckets)
                below += count
            found.append((edge(bucket) + edge(bucket + 1)) / 2)
        return found

    @property
    def p95(self) -> float:
        """The value below which 95 % lie; infinite until there are two."""
        if self._at != self.count:  # most looks come while few have been added
            (value,) = self.quantiles(0.95)
            self._at, self._p95 = self.count, float("inf") if value is None else value
        return self._p95

    def rows(self) -> tuple[tuple[float, float, int], ...]:
        """Return (from, to, count) of at most 16 rows of about equal ratio, from the first that is not empty to the last."""
        if not self.counts:
            return ()
        first, last = min(self.counts), max(self.counts)
        width = ceil((last - first + 1) / MAX_ROWS)
        rows = [0] * ((last - first) // width + 1)
        for bucket, count in self.counts.items():
            rows[(bucket - first) // width] += count
        return tuple((edge(first + row * width), edge(first + (row + 1) * width), count) for row, count in enumerate(rows))


__all__ = ["Sketch", "Span", "buckets_of"]
