"""Number formats: the element formats of MX blocks and the small float.

Imports nothing but the standard library, so that `golden` and `hw` can share it.
"""

import re
from dataclasses import dataclass

__all__ = [
    "BLOCK",
    "E8M0_BIAS",
    "ConfigError",
    "ElementFormat",
    "FloatFormat",
    "element_format",
    "float_format",
    "mxint",
]

BLOCK = 32
"""Elements that share one exponent along a reduction (OCP MX v1.0, section 5.1)."""

E8M0_BIAS = 127
"""Bias of the shared exponent of a block; codes 0..254 are 2**-127..2**127."""


class ConfigError(ValueError):
    """An impossible choice; the message is one sentence for the user."""


@dataclass(frozen=True)
class ElementFormat:
    """Element of an MX block: a small integer times a power of two that the format fixes.

    The value of an element is ``integer * 2**(shared_exponent - E8M0_BIAS - fraction_bits)``, so a
    multiplier array needs to know nothing but the width of the integers.
    """

    name: str
    """As the command line spells it: ``int8``, ``e2m1``."""

    bits: int
    """Storage of one element, in bits."""

    integer_bits: int
    """Width of the signed integer that stands for an element in the multiplier array."""

    fraction_bits: int
    """Weight of the integer's least significant bit is ``2**-fraction_bits``."""

    largest: int
    """Largest integer; the format is symmetric, the most negative code of MXINT is never made."""

    emax: int
    """Exponent of the largest power of two among the elements (OCP MX v1.0, section 6.3)."""

    @property
    def is_integer(self) -> bool:
        """Whether this is MXINT (the stored code is the integer), not a small float code."""
        return self.emax == 0


def element_format(name: str) -> ElementFormat:
    """Return the format called `name`: ``int4`` .. ``int16``, ``e2m1`` or ``e2m3``.

    Raises :exc:`ConfigError` for any other name.
    """
    if name == "e2m1":  # MXFP4: 0, 0.5 .. 6, which is 0..12 halves
        return ElementFormat("e2m1", 4, 5, 1, 12, 2)
    if name == "e2m3":  # MXFP6: 0, 0.125 .. 7.5, which is 0..60 eighths
        return ElementFormat("e2m3", 6, 7, 3, 60, 2)
    digits = name.removeprefix("int")
    if re.fullmatch(r"int\d{1,2}", name) and 4 <= int(digits) <= 16:
        return mxint(int(digits))
    raise ConfigError(f"Unknown format {name!r}: use int4 to int16, e2m1 or e2m3")


def mxint(bits: int) -> ElementFormat:
    """MXINT with elements of `bits` bits: two's complement with ``bits - 2`` fraction bits."""
    return ElementFormat(f"int{bits}", bits, bits, bits - 2, (1 << (bits - 1)) - 1, 0)


@dataclass(frozen=True)
class FloatFormat:
    """The small float: sign, biased exponent, fraction, most significant bit first.

    The all-zero code is zero (there is no -0), exponent code 0 occurs nowhere else, and the top
    exponent code is not used, so that an exponent code plus a constant is an E8M0 code. No
    subnormals, infinities or NaN: results below ``smallest`` become zero, results above
    ``largest`` become ``largest``; rounding is to nearest even.
    """

    exponent_bits: int = 8
    fraction_bits: int = 15

    def __post_init__(self):
        if not 5 <= self.exponent_bits <= 8:
            raise ConfigError(
                f"The small float needs 5 to 8 exponent bits, not {self.exponent_bits}"
            )
        if not 7 <= self.fraction_bits <= 23:
            raise ConfigError(
                f"The small float needs 7 to 23 fraction bits, not {self.fraction_bits}"
            )

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def precision(self) -> int:
        """Bits of the significand, the hidden one included."""
        return self.fraction_bits + 1

    @property
    def bias(self) -> int:
        """Exponent code of 1.0."""
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def top(self) -> int:
        """Largest exponent code in use."""
        return (1 << self.exponent_bits) - 2

    @property
    def largest(self) -> float:
        """Largest value."""
        return (2.0 - 2.0**-self.fraction_bits) * 2.0 ** (self.top - self.bias)

    @property
    def smallest(self) -> float:
        """Smallest value above zero."""
        return 2.0 ** (1 - self.bias)

    def __str__(self) -> str:
        return f"E{self.exponent_bits}M{self.fraction_bits}"


def float_format(name: str) -> FloatFormat:
    """Return the small float called `name`, such as ``E8M15``; raises :exc:`ConfigError`."""
    match = re.fullmatch(r"[eE](\d{1,2})[mM](\d{1,2})", name)
    if match is None:
        raise ConfigError(f"Unknown small float {name!r}: write it like E8M15")
    return FloatFormat(int(match[1]), int(match[2]))
