"""OCP Microscaling blocks: conversion on the fly, from the largest magnitude of each block."""

import numpy as np

from intaglio.hw.formats import BLOCK, E8M0_BIAS, ElementFormat

__all__ = ["blocks", "dequantise", "quantise"]


def blocks(x: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """(..., n) -> (..., ceil(n / block), block), padded with zeros."""
    pad = -x.shape[-1] % block
    if pad:
        x = np.concatenate([x, np.zeros((*x.shape[:-1], pad), x.dtype)], axis=-1)
    return x.reshape(*x.shape[:-1], -1, block)


def quantise(fmt: ElementFormat, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert finite blocks to `fmt` as OCP MX v1.0, 6.3: round to nearest even, saturate.

    x (..., block) -> integers (..., block) and E8M0 codes (...), both int64; see
    :class:`~intaglio.hw.formats.ElementFormat` for the value of an integer. The exponent is that
    of the largest magnitude less ``fmt.emax``, kept within the codes 0..254; a block of zeros has
    code 0.
    """
    largest = np.abs(x).max(axis=-1)
    code = np.frexp(largest)[1].astype(np.int64) - 1 - fmt.emax + E8M0_BIAS
    code = np.where(largest == 0, 0, np.clip(code, 0, 254))
    scaled = np.ldexp(np.asarray(x, dtype=np.float64), (E8M0_BIAS - code)[..., None])
    if fmt.is_integer:
        step = np.zeros_like(scaled, dtype=np.int64)
    else:  # above the first binade the elements of a float lie farther apart
        step = np.maximum(np.frexp(scaled)[1].astype(np.int64) - 1, 0)
    integer = np.ldexp(np.rint(np.ldexp(scaled, fmt.fraction_bits - step)), step)
    return np.clip(integer, -fmt.largest, fmt.largest).astype(np.int64), code


def dequantise(fmt: ElementFormat, integer: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Values (float64) of blocks: integers (..., block) and E8M0 codes (...)."""
    exponent = code - E8M0_BIAS - fmt.fraction_bits
    return np.ldexp(integer.astype(np.float64), exponent[..., None])
