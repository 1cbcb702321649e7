"""Products made of adders, for multipliers that are too many or too small for DSP blocks."""

from amaranth import Const, Module, Mux, Value
from amaranth.utils import ceil_log2

from intaglio.hw.pipeline import copy, delay, sum_tree

__all__ = ["copies", "multiples", "product", "product_latency", "times"]


def times(x: Value, constant: int) -> Value:
    """``x * constant`` of an unsigned `x`, as a sum of shifted ones.

    For addresses: synthesis makes a DSP block without registers of a product by a constant.
    """
    ones = [x << n for n in range(constant.bit_length()) if constant >> n & 1]
    total = sum(ones[1:], ones[0]) if ones else Const(0)
    return total[: len(x) + constant.bit_length()]


def multiples(m: Module, enable: Value | int, a: Value, name: str) -> dict[int, Value]:
    """`a` times -2 to 3, one enabled cycle later; products with the same `a` share them."""
    once = delay(m, enable, a, 1, f"{name}_once")
    thrice = delay(m, enable, a + (a << 1), 1, f"{name}_thrice")
    minus = delay(m, enable, -a, 1, f"{name}_minus")
    return _with_doubles(once, thrice, minus)


def copies(m: Module, enable: Value | int, a: dict[int, Value], name: str) -> dict[int, Value]:
    """The `multiples` of a number an enabled cycle later, in registers of their own."""
    of = {"once": a[1], "thrice": a[3], "minus": a[-1]}
    return _with_doubles(*(copy(m, enable, x, f"{name}_{which}") for which, x in of.items()))


def _with_doubles(once: Value, thrice: Value, minus: Value) -> dict[int, Value]:
    return {-2: minus << 1, -1: minus, 1: once, 2: once << 1, 3: thrice}


def product_latency(bits: int) -> int:
    """Enabled cycles of a `product` by a number of this many bits."""
    return max(ceil_log2(-(-bits // 2)), 1)


def product(m: Module, enable: Value | int, a: dict[int, Value], b: Value, name: str) -> Value:
    """``a * b`` of the `multiples` of a number and a signed `b`; ``product_latency(len(b))``.

    Two bits of `b` at a time choose a multiple; the last two have values from -2 to 1. The chosen
    ones are added in pairs, with a register after each addition.
    """
    terms = []
    for k in range(0, len(b), 2):
        low, high = b[k], b[min(k + 1, len(b) - 1)]
        last = k + 2 >= len(b)
        with_high = Mux(low, a[-1 if last else 3], a[-2 if last else 2])
        terms.append(Mux(high, with_high, Mux(low, a[1], 0)) << k)
    total = sum_tree(m, enable, terms, name)
    width = len(a[1]) + len(b)
    return (delay(m, enable, total, 1, name) if len(terms) == 1 else total)[:width].as_signed()
