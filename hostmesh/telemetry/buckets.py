"""Where samples are counted: log-linear buckets. See :mod:`hostmesh.telemetry.histogram`."""

from __future__ import annotations

from typing import Final

K: Final = 5
"""Octaves have ``2**K`` buckets. 6 would halve the error and double the memory; 1.6 % is below the noise of
latency."""

MAX_VALUE: Final = (1 << 32) - 1
"""Larger samples count as this one: as microseconds 71 minutes, longer than any request that is not a
tunnel."""

BUCKETS: Final = ((32 - K - 1) << K) + (1 << (K + 1))
"""How many buckets exist, and so the most entries a histogram can have: 896."""


def index(value: int) -> int:
    """The bucket of ``value``, a whole number from 0 to :data:`MAX_VALUE`."""
    e = value.bit_length() - (K + 1)
    return value if e <= 0 else (e << K) + (value >> e)


def bounds(bucket: int) -> tuple[int, int]:
    """The values of a bucket as a half-open range."""
    if bucket < 1 << (K + 1):
        return bucket, bucket + 1
    e = (bucket >> K) - 1
    m = bucket - (e << K)
    return m << e, (m + 1) << e
