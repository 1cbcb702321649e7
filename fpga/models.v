// Models of the vendor's primitives that a board's top is made of.

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

// A multiplier whose factors and product are registered, as in hw/dsp.py.
module MULT18X18D #(
  parameter REG_INPUTA_CLK = "", parameter REG_INPUTA_CE = "", parameter REG_INPUTA_RST = "",
  parameter REG_INPUTB_CLK = "", parameter REG_INPUTB_CE = "", parameter REG_INPUTB_RST = "",
  parameter REG_OUTPUT_CLK = "", parameter REG_OUTPUT_CE = "", parameter REG_OUTPUT_RST = "",
  parameter RESETMODE = ""
) (
  input
  A17, A16, A15, A14, A13, A12, A11, A10, A9,
  A8, A7, A6, A5, A4, A3, A2, A1, A0,
  input
  B17, B16, B15, B14, B13, B12, B11, B10, B9,
  B8, B7, B6, B5, B4, B3, B2, B1, B0,
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK0, CE0, RST0,
  output
  P35, P34, P33, P32, P31, P30, P29, P28, P27,
  P26, P25, P24, P23, P22, P21, P20, P19, P18,
  P17, P16, P15, P14, P13, P12, P11, P10, P9,
  P8, P7, P6, P5, P4, P3, P2, P1, P0
);
  reg signed [17:0] a = 0, b = 0;
  reg signed [35:0] p = 0;
  assign {P35, P34, P33, P32, P31, P30, P29, P28, P27,
    P26, P25, P24, P23, P22, P21, P20, P19, P18,
    P17, P16, P15, P14, P13, P12, P11, P10, P9,
    P8, P7, P6, P5, P4, P3, P2, P1, P0} = p;
  always @(posedge CLK0) if (CE0) begin
    a <= {A17, A16, A15, A14, A13, A12, A11, A10, A9,
      A8, A7, A6, A5, A4, A3, A2, A1, A0};
    b <= {B17, B16, B15, B14, B13, B12, B11, B10, B9,
      B8, B7, B6, B5, B4, B3, B2, B1, B0};
    p <= a * b;
  end
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
