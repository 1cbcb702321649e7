// Models of the vendor's primitives that stand between a board's pins and its core.

// ECP5: buffers of the pins, the PLL, and the gate of a clock, which opens while the clock is low.
// The clock of the simulation is that of the chip.

module IB(input I, output O);
  assign O = I;
endmodule

module OBZ(input I, input T, output O);
  assign O = T ? 1'bz : I;
endmodule

module EHXPLLL #(
  parameter CLKI_DIV = 1,
  parameter CLKFB_DIV = 1,
  parameter CLKOP_DIV = 1,
  parameter CLKOP_ENABLE = "",
  parameter CLKOP_CPHASE = 0,
  parameter CLKOP_FPHASE = 0,
  parameter FEEDBK_PATH = "",
  parameter PLLRST_ENA = "",
  parameter INTFB_WAKE = "",
  parameter STDBY_ENABLE = "",
  parameter DPHASE_SOURCE = "",
  parameter OUTDIVIDER_MUXA = "",
  parameter OUTDIVIDER_MUXB = "",
  parameter OUTDIVIDER_MUXC = "",
  parameter OUTDIVIDER_MUXD = ""
) (
  input CLKI, CLKFB, RST, STDBY, PHASESEL0, PHASESEL1, PHASEDIR, PHASESTEP, PHASELOADREG,
  input PLLWAKESYNC, ENCLKOP,
  output CLKOP, LOCK
);
  locking locking(.clock(CLKI), .locked(LOCK));
  assign CLKOP = CLKI;
endmodule

module DCCA(input CLKI, CE, output CLKO);
  reg open = 0;
  always @(negedge CLKI) open <= CE;
  assign CLKO = CLKI & open;
endmodule

// iCE40: the cell of a pin, as input (PIN_TYPE 000001) or output (101001), and the PLL.

module SB_IO #(
  parameter [5:0] PIN_TYPE = 0,
  parameter PULLUP = 0,
  parameter IO_STANDARD = ""
) (
  inout PACKAGE_PIN,
  input D_OUT_0, OUTPUT_ENABLE,
  output D_IN_0
);
  generate
    if (PIN_TYPE[5:4] != 0) assign PACKAGE_PIN = OUTPUT_ENABLE ? D_OUT_0 : 1'bz;
  endgenerate
  assign D_IN_0 = PACKAGE_PIN;
endmodule

module SB_PLL40_PAD #(
  parameter FEEDBACK_PATH = "",
  parameter DIVR = 0,
  parameter DIVF = 0,
  parameter DIVQ = 0,
  parameter FILTER_RANGE = 0
) (
  input PACKAGEPIN, RESETB, BYPASS,
  output PLLOUTGLOBAL, LOCK
);
  locking locking(.clock(PACKAGEPIN), .locked(LOCK));
  assign PLLOUTGLOBAL = PACKAGEPIN;
endmodule

// A PLL is not ready at once.
module locking(input clock, output locked);
  reg [4:0] cycles = 0;
  assign locked = cycles[4];
  always @(posedge clock) if (!locked) cycles <= cycles + 1;
endmodule
