"""Bytes that nobody meant: no exception but ours, no hang, no memory beyond a bound."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from gymdbd.source import payloads
from tests.faults import table, targets
from tests.support import samples

_ROW = table.row(
    "bytes that nobody meant",
    "hypothesis: configuration, protocol, packed data, WAL and its index, our own JSON files",
    "an error of ours or none; at most 32 MiB of memory",
)
_MOST_BYTES = 32 * 1024 * 1024
_EXAMPLES = samples.count(150, of=5000)

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
_PAYLOADS = st.one_of(
    st.binary(max_size=2000),
    _JSON.map(lambda one: json.dumps(one).encode()),
    st.dictionaries(st.sampled_from(sorted(targets.FINGERPRINT)), _JSON).map(
        lambda one: json.dumps(
            {"codecs": ["raw"], "fingerprint": {**targets.FINGERPRINT, **one}, "tables": {"t": 1}}
        ).encode()
    ),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3).map(
        lambda numbers: payloads.pack_pages(numbers, bytes(512 * len(numbers)))
    ),
)
_FRAMES = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 3), _PAYLOADS).map(
        lambda one: targets.frame(one[0], zlib.compress(one[2]) if one[1] == 1 else one[2], one[1])
    ),
    max_size=6,
).map(b"".join)
_INPUTS: dict[str, Any] = {
    "configuration": st.text().map(str.encode) | _JSON.map(lambda one: json.dumps(one).encode()),
    "conversation": st.tuples(st.binary(min_size=1, max_size=1), _FRAMES).map(b"".join),
    "frames": _FRAMES | st.binary(),
    "packed": st.binary(max_size=5000),
    "log_of_writes": st.binary(min_size=20, max_size=3000),
    "index_of_writes": st.binary(min_size=136, max_size=136)
    | st.binary(min_size=48, max_size=48).map(lambda one: one + one + bytes(40)),
    "records": _JSON.map(lambda one: json.dumps(one).encode()) | st.binary(),
}


@pytest.mark.parametrize("name", targets.TARGETS)
def test_bytes_that_nobody_meant_are_an_error_of_ours_or_none(name: str) -> None:
    """Whatever they are, nothing else is raised, and memory stays within its bound."""
    target = targets.TARGETS[name]

    @seed(samples.SEED)
    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=_INPUTS[name])
    def feed(data: bytes) -> None:
        # Only here: what Hypothesis needs for itself is no business of ours.
        tracemalloc.start()
        try:
            targets.survive(target, data)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < _MOST_BYTES
        _ROW.tried("ok")

    feed()
