// A board's top under Verilator, its UART behind a pseudo-terminal.
//
// Prints the terminal's name, then runs until its standard input is closed, so that it does not
// outlive who has started it; then prints for how many cycles the chip was busy the last time. Sleeps
// while there is nothing to do.

#include <fcntl.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "Vboard.h"
#include "verilated.h"

namespace {

constexpr int kBit = CYCLES_PER_BIT;
constexpr int kByte = 10 * kBit;
constexpr int kRest = 32 * kByte;  // cycles without work after which the board may sleep

// Bytes to a wire: a start bit, eight bits, a stop bit.
class Sender {
 public:
  bool busy() const { return left_ > 0; }
  void send(uint8_t byte) {
    frame_ = 0x200u | byte << 1;
    left_ = kByte;
  }
  // Level of the wire in the next cycle.
  bool cycle() {
    if (!busy()) return true;
    const bool level = frame_ >> ((kByte - left_) / kBit) & 1;
    left_--;
    return level;
  }

 private:
  uint32_t frame_ = 0;
  int left_ = 0;
};

// Bytes from a wire, each bit sampled in its middle.
class Receiver {
 public:
  bool busy() const { return at_ >= 0; }
  // Whether `level` completes a byte.
  bool cycle(bool level) {
    if (!busy()) {
      if (level) return false;
      at_ = 0;
    }
    const int at = at_++;
    if (at % kBit != kBit / 2) return false;
    const int bit = at / kBit;
    if (bit >= 1 && bit <= 8) byte_ = byte_ >> 1 | (level ? 0x80 : 0);
    if (bit < 9) return false;
    at_ = -1;
    return level;
  }
  uint8_t byte() const { return byte_; }

 private:
  int at_ = -1;
  uint8_t byte_ = 0;
};

// The terminal: we hold its master; and its slave as well, so that hosts may come and go.
int open_terminal() {
  const int master = posix_openpt(O_RDWR | O_NOCTTY);
  if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) return -1;
  const int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
  termios settings;
  if (slave < 0 || tcgetattr(slave, &settings) != 0) return -1;
  cfmakeraw(&settings);
  if (tcsetattr(slave, TCSANOW, &settings) != 0) return -1;
  return master;
}

uint64_t busy_cycles = 0;

// Whether there is a byte to read on the terminal; ends the program when our input is closed.
bool waiting(int terminal, int timeout) {
  pollfd files[] = {{terminal, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
  if (poll(files, 2, timeout) <= 0) return false;
  if (files[1].revents != 0) {
    std::printf("%llu\n", static_cast<unsigned long long>(busy_cycles));
    std::exit(0);
  }
  return (files[0].revents & POLLIN) != 0;
}

}  // namespace

int main() {
  VerilatedContext context;
  Vboard board{&context, "board"};
  const auto clock = [&board] {
    board.clk = 1;
    board.eval();
    board.clk = 0;
    board.eval();
  };
  board.rx = 1;
  while (!board.ready) clock();
  for (int n = 0; n < kByte; n++) clock();

  const int terminal = open_terminal();
  if (terminal < 0) {
    std::perror("pseudo-terminal");
    return 1;
  }
  std::printf("%s\n", ptsname(terminal));
  std::fflush(stdout);

  Sender sender;
  Receiver receiver;
  int idle = 0;        // cycles since there was something to do
  int until_look = 0;  // cycles until the terminal is looked at again
  for (;;) {
    if (!sender.busy() && until_look-- <= 0) {
      uint8_t byte;
      if (waiting(terminal, idle > kRest ? -1 : 0) && read(terminal, &byte, 1) == 1) {
        sender.send(byte);
      } else {
        until_look = kByte;
      }
    }
    board.rx = sender.cycle();
    const bool was_busy = board.busy;
    clock();
    if (board.busy) busy_cycles = was_busy ? busy_cycles + 1 : 1;
    if (receiver.cycle(board.tx)) {
      const uint8_t byte = receiver.byte();
      if (write(terminal, &byte, 1) != 1) return 1;
    }
    idle = sender.busy() || receiver.busy() || board.busy ? 0 : idle + 1;
  }
}
