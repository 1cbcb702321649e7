"""The table functions against golden: every entry of the tables, and the edges of the range."""

import numpy as np
import pytest

from intaglio.golden import drain, small_float
from intaglio.golden.table import evaluate
from intaglio.hw.formats import FloatFormat
from intaglio.hw.lookup import Lookup, Reciprocal, ReciprocalRoot, Sigmoid
from intaglio.hw.pipeline import Streamed
from intaglio.hw.tables import EXP2, PROBABILITY_FRACTION
from intaglio.tb.bench import ON_BOTH, check
from intaglio.tb.test_small_float import codes, payloads

FORMAT = FloatFormat()


def positive_values(fmt: FloatFormat) -> np.ndarray:
    """All entries of the tables at a few exponents, and random values of all exponents."""
    rng = np.random.default_rng(1)
    every = np.arange(1 << 9) << (fmt.fraction_bits - 9)
    near = (fmt.bias + np.arange(-1, 3))[:, None] << fmt.fraction_bits
    anywhere = rng.integers(1 << fmt.fraction_bits, (fmt.top + 1) << fmt.fraction_bits, 1000)
    ends = [0, 1 << fmt.fraction_bits, fmt.top << fmt.fraction_bits]
    return small_float.decode(fmt, np.concatenate([ends, (near + every).ravel(), anywhere]))


@ON_BOTH
@pytest.mark.parametrize(
    ("unit", "golden"),
    [(Reciprocal, small_float.reciprocal), (ReciprocalRoot, small_float.reciprocal_root)],
    ids=["reciprocal", "reciprocal_root"],
)
def test_inverse(unit, golden, simulator, tmp_path):
    x = positive_values(FORMAT)
    inputs = {"i": payloads(a=small_float.encode(FORMAT, x))}
    check(
        Streamed(unit(FORMAT)), inputs, {"o": codes(FORMAT, golden(FORMAT, x))}, simulator, tmp_path
    )


@ON_BOTH
@pytest.mark.parametrize("fmt", [FORMAT, FloatFormat(6, 10)], ids=str)
def test_sigmoid(fmt, simulator, tmp_path):
    rng = np.random.default_rng(2)
    x = np.concatenate([
        [0.0, 15.999, -15.999, 16.0, -16.0, 500.0, -500.0, 1e-9, -1e-9],
        rng.uniform(-18, 18, 1500),
        rng.normal(size=500) * 0.1,
    ])
    x = small_float.round_float(fmt, x)
    inputs = {"i": payloads(a=small_float.encode(fmt, x))}
    expected = drain.sigmoid(fmt, x)
    assert np.abs(expected - 1 / (1 + np.exp(-x))).max() < 2.0**-15 + 2.0**-fmt.precision
    check(Streamed(Sigmoid(fmt)), inputs, {"o": codes(fmt, expected)}, simulator, tmp_path)


@ON_BOTH
def test_exp2(simulator, tmp_path):
    x = np.arange(1 << EXP2.input_bits)
    expected = evaluate(EXP2, x)
    exact = 2.0 ** (x / (1 << EXP2.input_bits) + PROBABILITY_FRACTION)
    assert np.abs(expected - exact).max() < 1
    some = x[:: 7 if simulator == "icarus" else 1]
    check(
        Streamed(Lookup(EXP2)),
        {"i": payloads(x=some)},
        {"o": expected[some].tolist()},
        simulator,
        tmp_path,
    )
