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

// iCE40: the cell of a pin, with or without registers, and the PLL.

module SB_IO #(
  parameter [5:0] PIN_TYPE = 0,
  parameter PULLUP = 0,
  parameter IO_STANDARD = ""
) (
  inout PACKAGE_PIN,
  input D_OUT_0, D_OUT_1, OUTPUT_ENABLE, INPUT_CLK, OUTPUT_CLK,
  output D_IN_0
);
  reg in = 0, out = 0, both = 0, enable = 0;
  always @(posedge INPUT_CLK) in <= PACKAGE_PIN;
  always @(posedge OUTPUT_CLK) {out, enable} <= {D_OUT_0, OUTPUT_ENABLE};
  always @(posedge OUTPUT_CLK or negedge OUTPUT_CLK) both <= OUTPUT_CLK ? D_OUT_0 : D_OUT_1;
  wire level = PIN_TYPE[3] ? D_OUT_0 : PIN_TYPE[2] ? out : both;
  generate
    if (PIN_TYPE[5:4] != 0) assign PACKAGE_PIN = (PIN_TYPE[4] ? enable : OUTPUT_ENABLE) ? level : 1'bz;
  endgenerate
  assign D_IN_0 = PIN_TYPE[0] ? PACKAGE_PIN : in;
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

// A quad SPI flash that has been configured from and sleeps, as far as hw/flash.py needs it. From
// byte START on it holds the words of memory.hex, the lowest byte of each first.
module spi_flash #(parameter START = 0) (input cs_n, clk, inout [3:0] dq);
  reg [31:0] words [0:(1 << 22) - 1];
  initial $readmemh("memory.hex", words);
  reg awake = 0, may_write = 0, quad = 0;
  reg [31:0] bits = 0;
  reg [5:0] count = 0;
  wire [7:0] command = bits[31:24];
  always @(posedge clk or posedge cs_n)
    if (cs_n) begin
      if (count == 8 && bits[7:0] == 8'hab) awake <= 1;
      may_write <= count == 8 && bits[7:0] == 8'h50;
      if (count == 16 && bits[15:8] == 8'h31 && awake && may_write) quad <= bits[1];
      count <= 0;
    end else if (count != 40) begin
      count <= count + 1;
      if (count < 32) bits <= {bits[30:0], dq[0]};
    end
  // Nibbles come at the end of a pulse, the high one of a byte first.
  reg [24:0] place = 0;
  reg [3:0] nibble = 0;
  reg drive = 0;
  wire [23:0] first = bits[23:0] - START;
  wire [31:0] word = words[place[24:3]];
  always @(negedge clk or posedge cs_n)
    if (cs_n) begin
      drive <= 0;
    end else if (awake && quad && count == 40 && command == 8'h6b) begin
      drive <= 1;
      nibble <= word[{place[2:1], ~place[0], 2'b00} +: 4];
      place <= place + 1;
    end else
      place <= {first, 1'b0};
  assign dq = drive ? nibble : 4'bz;
endmodule
