"""The chip's clock and reset, from a board's oscillator."""

from amaranth import ClockDomain, Elaboratable, Instance, Module, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from intaglio.fpga.boards import ECP5PLL, ICE40PLL

__all__ = ["ClockGenerator"]

SETTLE_SECONDS = 15e-6
"""How long after the PLL has locked the chip begins: iCE40 block RAMs read zero for 3 us after
configuration."""


class ClockGenerator(Elaboratable):
    """Make the domain ``sync`` from the platform's default clock.

    An ECP5's registers have their initial values from configuration, and keep them as long as their
    clock stands still, so that there is no reset: a net to every register of a large chip would be
    its slowest. An iCE40 cannot stop its clock, and has nets for a reset.

    The PLL is an Instance, so that Amaranth's own simulator sees no clock; the board top is
    simulated as Verilog, with models of these primitives.

    Attributes
    ----------
    sync : ``ClockDomain``
        To be added by the parent.
    ready : ``Signal()``, out
        The clock is steady, and the chip runs.
    """

    def __init__(self, pll: ECP5PLL | ICE40PLL):
        self.pll = pll
        self.sync = ClockDomain("sync", reset_less=isinstance(pll, ECP5PLL))
        self.ready = Signal()

    def elaborate(self, platform):
        m = Module()
        # Straight to the gate: two global nets in a row cannot be routed.
        clock = Signal(name="pll_clock", attrs={"noglobal": 1})
        locked = Signal(name="pll_locked")
        pin = platform.request(platform.default_clk, dir="-")
        m.domains.power_on = power_on = ClockDomain(reset_less=True, local=True)
        if isinstance(self.pll, ECP5PLL):
            m.submodules.buffer = buffer = io.Buffer(io.Direction.Input, pin)
            m.submodules.pll = ecp5_pll(self.pll, buffer.i, clock, locked)
            m.submodules.gate = Instance(
                "DCCA", i_CLKI=clock, i_CE=self.ready, o_CLKO=self.sync.clk
            )
            m.d.comb += power_on.clk.eq(buffer.i)
            hz = self.pll.pin_hz
        else:
            m.submodules.pll = ice40_pll(self.pll, pin.io, self.sync.clk, locked)
            m.submodules.reset = ResetSynchronizer(~self.ready)
            m.d.comb += power_on.clk.eq(self.sync.clk)
            hz = self.pll.hz

        last = round(SETTLE_SECONDS * hz)
        settle = Signal(range(last + 1))
        with m.If(locked & (settle != last)):
            m.d.power_on += settle.eq(settle + 1)
        m.d.power_on += self.ready.eq(settle == last)
        return m


def ecp5_pll(pll: ECP5PLL, pin: Signal, clock: Signal, locked: Signal) -> Instance:
    """The PLL of an ECP5; `pin` has passed its input buffer."""
    return Instance(
        "EHXPLLL",
        a_FREQUENCY_PIN_CLKI=f"{pll.pin_hz / 1e6:g}",
        a_FREQUENCY_PIN_CLKOP=f"{pll.hz / 1e6:g}",
        a_ICP_CURRENT="12",
        a_LPF_RESISTOR="8",
        a_MFG_ENABLE_FILTEROPAMP="1",
        a_MFG_GMCREF_SEL="2",
        p_PLLRST_ENA="DISABLED",
        p_INTFB_WAKE="DISABLED",
        p_STDBY_ENABLE="DISABLED",
        p_DPHASE_SOURCE="DISABLED",
        p_OUTDIVIDER_MUXA="DIVA",
        p_OUTDIVIDER_MUXB="DIVB",
        p_OUTDIVIDER_MUXC="DIVC",
        p_OUTDIVIDER_MUXD="DIVD",
        p_CLKI_DIV=pll.input_divider,
        p_CLKFB_DIV=pll.feedback_divider,
        p_CLKOP_DIV=pll.output_divider,
        p_CLKOP_ENABLE="ENABLED",
        p_CLKOP_CPHASE=pll.output_divider // 2,
        p_CLKOP_FPHASE=0,
        p_FEEDBK_PATH="CLKOP",
        i_CLKI=pin,
        i_CLKFB=clock,
        o_CLKOP=clock,
        o_LOCK=locked,
        i_RST=0,
        i_STDBY=0,
        i_PHASESEL0=0,
        i_PHASESEL1=0,
        i_PHASEDIR=1,
        i_PHASESTEP=1,
        i_PHASELOADREG=1,
        i_PLLWAKESYNC=0,
        i_ENCLKOP=0,
    )


def ice40_pll(pll: ICE40PLL, pin, clock: Signal, locked: Signal) -> Instance:
    """The PLL of an iCE40, which is its own input buffer: `pin` is the raw port."""
    return Instance(
        "SB_PLL40_PAD",
        p_FEEDBACK_PATH="SIMPLE",
        p_DIVR=pll.divr,
        p_DIVF=pll.divf,
        p_DIVQ=pll.divq,
        p_FILTER_RANGE=pll.filter_range,
        i_PACKAGEPIN=pin,
        i_RESETB=1,
        i_BYPASS=0,
        o_PLLOUTGLOBAL=clock,
        o_LOCK=locked,
    )
