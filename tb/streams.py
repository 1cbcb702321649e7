"""Packing of payloads by the design's own layouts, and cocotb drivers for streams."""

from amaranth import Shape
from amaranth.lib import data
from cocotb.triggers import RisingEdge

__all__ = ["collect", "drive", "pack", "unpack"]


def pack(layout, value) -> int:
    """Bits of a payload given as nested dicts, sequences and integers (bits, where a layout is)."""
    if isinstance(value, int):
        return value & ((1 << Shape.cast(layout).width) - 1)
    if isinstance(layout, data.StructLayout):
        return sum(pack(field.shape, value[name]) << field.offset for name, field in layout)
    if isinstance(layout, data.ArrayLayout):
        width = Shape.cast(layout.elem_shape).width
        assert len(value) == layout.length
        return sum(pack(layout.elem_shape, v) << n * width for n, v in enumerate(value))
    raise TypeError(f"{value!r} is no payload of {layout!r}")


def unpack(layout, bits: int):
    """Nested dicts, lists and integers of a payload: the inverse of :func:`pack`."""
    if isinstance(layout, data.StructLayout):
        return {name: unpack(field.shape, bits >> field.offset) for name, field in layout}
    if isinstance(layout, data.ArrayLayout):
        width = Shape.cast(layout.elem_shape).width
        return [unpack(layout.elem_shape, bits >> n * width) for n in range(layout.length)]
    shape = Shape.cast(layout)
    bits &= (1 << shape.width) - 1
    return bits - (1 << shape.width) if shape.signed and bits >> (shape.width - 1) else bits


async def drive(dut, port: str, items: list[int], rng, stall: float):
    """Send packed payloads into the stream `port`, each after idle cycles at random."""
    edge = RisingEdge(dut.clk)
    payload, valid, ready = (
        getattr(dut, f"{port}__{name}") for name in ("payload", "valid", "ready")
    )
    for item in items:
        while rng.random() < stall:
            await edge
        payload.value, valid.value = item, 1
        await edge
        while not ready.value:  # as it was before the edge
            await edge
        valid.value = 0


async def collect(dut, port: str, count: int, rng, stall: float) -> list[int]:
    """Take `count` packed payloads from the stream `port`, refusing at random."""
    edge = RisingEdge(dut.clk)
    payload, valid, ready = (
        getattr(dut, f"{port}__{name}") for name in ("payload", "valid", "ready")
    )
    got = []
    while len(got) < count:
        accept = int(rng.random() >= stall)
        ready.value = accept
        await edge
        if accept and valid.value:
            got.append(int(payload.value))
    ready.value = 0
    return got
