"""The attention engine against golden, with the cache played by streams.

The engine's parts (`scores`, `context`, `rescale`, `multiply`, `context_output`) are tested in it.
"""

import numpy as np
import pytest

from intaglio.golden import attention, mx, small_float
from intaglio.hw.attention import AttentionEngine
from intaglio.hw.attention_shape import AttentionShape
from intaglio.hw.formats import FloatFormat, mxint
from intaglio.tb.bench import ON_BOTH, check

BASE = 40


def sequence(q_lanes, kv_lanes, head_dim, block, queries, cache, length, kind):
    """Quantised query, keys and values of one job: blocks last, positions first."""
    rng = np.random.default_rng([length, head_dim, kind])
    q, k, v = (
        rng.normal(size=(n, lanes, head_dim // block, block)) * spread
        for n, lanes, spread in (
            (1, q_lanes, (1.0, 8.0, 60.0)[kind]),
            (length, kv_lanes, 1.0),
            (length, kv_lanes, 1.0),
        )
    )
    v *= np.exp(2 * rng.normal(size=(length, kv_lanes, 1, 1)))
    if kind == 1:  # scores that climb, so that every window rescales
        k += np.linspace(-1, 1, length)[:, None, None, None] * q[:1, :: q_lanes // kv_lanes]
    v[length // 2] = 0
    return mx.quantise(queries, q), mx.quantise(cache, k), mx.quantise(cache, v)


@ON_BOTH
@pytest.mark.parametrize(
    ("q_lanes", "kv_lanes", "head_dim", "block", "bits"),
    [(4, 2, 8, 8, (8, 8)), (2, 2, 16, 8, (8, 5)), (2, 1, 4, 4, (16, 16))],
    ids=str,
)
def test_attention(q_lanes, kv_lanes, head_dim, block, bits, simulator, tmp_path):
    fmt, queries, cache = FloatFormat(), mxint(bits[0]), mxint(bits[1])
    window = 8
    shape = AttentionShape(
        fmt=fmt, queries=queries, cache=cache, q_lanes=q_lanes, kv_lanes=kv_lanes,
        head_dim=head_dim, blocks=head_dim // block, window=window, context=64, address_bits=9,
        tag=3,
    )  # fmt: skip
    share = [shape.kv_lane(lane) for lane in range(q_lanes)]
    ports = {name: [] for name in ("jobs", "keys", "values", "key_reads", "value_reads", "o")}
    lengths = [1, 2, 7, 8, 9, 33, 64, 1, 1, 17, 24, 3]
    for n, length in enumerate(lengths):
        q, k, v = sequence(q_lanes, kv_lanes, head_dim, block, queries, cache, length, n % 3)
        flat = [x[0].reshape(len(x[0]), -1, head_dim).tolist() for x in (q, k, v)]
        ports["jobs"].append({
            "query": {"elements": flat[0][0], "exponents": q[1][0].tolist()},
            "position": length - 1,
            "base": BASE * n,
            "tag": n % 8,
        })
        for p in range(length):
            ports["keys"].append({
                "elements": flat[1][p],
                "exponents": k[1][p].tolist(),
                "value_exponents": v[1][p].tolist(),
            })
            ports["values"].append(flat[2][p])
        addresses = list(range(BASE * n, BASE * n + length))
        ports["key_reads"] += addresses
        ports["value_reads"] += addresses

        s = attention.scores(queries, *q, cache, k[0][:, share], k[1][:, share])
        context = attention.attend(fmt, s, window, cache, v[0][:, share], v[1][:, share])
        pairs = small_float.encode(fmt, context).reshape(-1, 2).tolist()
        ports["o"] += [
            {"pair": pair, "last": int(i == len(pairs) - 1), "tag": n % 8}
            for i, pair in enumerate(pairs)
        ]
    outputs = {name: ports.pop(name) for name in ("key_reads", "value_reads", "o")}
    check(AttentionEngine(shape), ports, outputs, simulator, tmp_path)


def test_golden_is_softmax():
    """Wide formats come close to the float softmax, whatever the windows."""
    fmt, element = FloatFormat(8, 23), mxint(16)
    rng = np.random.default_rng(1)
    q, k, v = rng.normal(size=(20, 2, 1, 8)), *rng.normal(size=(2, 100, 2, 1, 8))
    exact_scores = np.einsum("thbd,phbd->tph", q * 2, k)
    s = attention.scores(element, *mx.quantise(element, q * 2), element, *mx.quantise(element, k))
    np.testing.assert_allclose(s / 2.0**14, exact_scores, atol=2e-3)
    weights = np.exp2(exact_scores - exact_scores.max(axis=1, keepdims=True))
    exact = np.einsum("tph,phd->thd", weights / weights.sum(axis=1, keepdims=True), v[:, :, 0])
    for window in (4, 32, 128):
        got = attention.attend(fmt, s, window, element, *mx.quantise(element, v))
        np.testing.assert_allclose(got, exact, atol=2e-3)
