"""Packing of payloads by the design's own layouts."""

from amaranth import Shape
from amaranth.lib import data

__all__ = ["pack", "unpack"]


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
