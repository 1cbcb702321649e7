"""Memories that follow each other, read as one."""

from amaranth import Array, Module, Value
from amaranth.utils import ceil_log2

from intaglio.hw import images
from intaglio.hw.pipeline import delay

__all__ = ["choose_word"]


def choose_word(
    m: Module, enable: Value | int, words: list, address: Value, name: str
) -> tuple[Value, int]:
    """The word of `address` among those that the banks give, and its latency in enabled cycles.

    Each bank of `images.BANK` words is asked for the lower part of `address` and answers a cycle
    later, in `words`. A register holds each answer, as it comes late in its cycle, and one more the
    choice.
    """
    held = [delay(m, enable, word, 1, f"{name}_{bank}") for bank, word in enumerate(words)]
    if len(held) == 1:
        return held[0], 2
    bank = delay(m, enable, address >> ceil_log2(images.BANK), 2, f"{name}_bank")
    return delay(m, enable, Array(held)[bank], 1, name), 3
