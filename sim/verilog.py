"""Verilog text of Amaranth components; the only caller of Amaranth's back end."""

import os

from amaranth.back import verilog
from amaranth.lib import wiring

__all__ = ["verilog_text"]


def verilog_text(component: wiring.Component, name: str) -> str:
    """Verilog of `component` as module `name`; the same text on every run."""
    # The Yosys that pip installed, so that the text does not depend on the machine.
    os.environ["AMARANTH_USE_YOSYS"] = "builtin"
    return verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True)
