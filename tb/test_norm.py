"""The norm's scalar against golden, for vectors of several lengths."""

import numpy as np
import pytest

from intaglio.golden import mx, small_float
from intaglio.golden.norm import inverse_rms
from intaglio.hw.formats import FloatFormat, mxint
from intaglio.hw.norm import Norm
from intaglio.tb.bench import ON_BOTH, check


@ON_BOTH
@pytest.mark.parametrize(
    ("fmt", "dim"), [(FloatFormat(), 64), (FloatFormat(), 34), (FloatFormat(8, 10), 32)], ids=str
)
def test_norm(fmt, dim, simulator, tmp_path):
    rng = np.random.default_rng(1)
    rows, count = 2, 40
    x = rng.normal(size=(count, rows, dim)) * np.exp(2 * rng.normal(size=(count, rows, 1)))
    x[::3] *= np.exp(2 * rng.normal(size=x[::3].shape))
    x[1] = 0
    x[2] = 2 - 2.0**-fmt.fraction_bits
    x = small_float.round_float(fmt, x)
    constants = small_float.round_float(fmt, np.array([1 / dim, 1e-5]))
    inverse_dim, eps = small_float.encode(fmt, constants).tolist()

    padded = mx.blocks(x)
    exponents = mx.quantise(mxint(8), padded)[1]
    codes = small_float.encode(fmt, padded).tolist()
    inputs = []
    for n in range(count):
        for k in range(0, dim, 2):
            block, place = divmod(k, 32)
            inputs.append({
                "pairs": [codes[n][row][block][place : place + 2] for row in range(rows)],
                "exponents": exponents[n, :, block].tolist(),
                "last": int(place == 30 or k == dim - 2),
                "end": int(k == dim - 2),
                "tag": n % 4,
            })
    expected = inverse_rms(fmt, x, *constants)
    outputs = [
        {"inverse": inverse, "tag": n % 4}
        for n, inverse in enumerate(small_float.encode(fmt, expected).tolist())
    ]
    unit = Norm(fmt, rows=rows, inverse_dim=inverse_dim, eps=eps, tag=2)
    check(unit, {"i": inputs}, {"o": outputs}, simulator, tmp_path)
    exact = 1 / np.sqrt((x**2).mean(axis=-1) + 1e-5)
    np.testing.assert_allclose(expected, exact, rtol=2.0 ** (3 - fmt.precision))
