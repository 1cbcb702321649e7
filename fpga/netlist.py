"""A chip after synthesis: a netlist of an iCE40's cells, with Yosys's own models of these."""

import tempfile
from pathlib import Path

from intaglio.fpga.place import HIDE_NAMES
from intaglio.fpga.simulate import cell_models
from intaglio.fpga.tools import find, run
from intaglio.hw.chip import make_chip
from intaglio.hw.config import Design
from intaglio.hw.images import Images
from intaglio.sim.verilog import verilog_text

__all__ = ["ice40_netlist"]


def ice40_netlist(design: Design, contents: Images) -> str:
    """Verilog of a chip as module ``chip``, synthesised as for a board; memories hold `contents`.

    It need not fit a device. Raises :exc:`~intaglio.sim.tools.ToolError` if Yosys is missing.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rtl.v").write_text(verilog_text(make_chip(design, contents), "chip"))
        synth = f"{HIDE_NAMES}; synth_ice40 -dsp -top chip"
        script = f"read_verilog rtl.v; {synth}; write_verilog -noattr netlist.v"
        run(find("yosys"), ["-q", "-p", script], folder)
        netlist = (folder / "netlist.v").read_text()
    # Bits of a port are made of others of its bits, which Verilator takes for a loop; a multiplier
    # that has no register has no clock.
    waivers = "/* verilator lint_off UNOPTFLAT */\n/* verilator lint_off PINMISSING */\n"
    return waivers + cell_models(netlist) + netlist
