// A Verilated chip behind a few C functions, so that Python is called per token, not per cycle.

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <vector>

#include "Vchip.h"
#include "verilated.h"

namespace {

// Ports of up to 64 bits are integers, wider ones arrays of 32-bit words.
void append(std::vector<uint32_t>& words, uint64_t port, size_t bits) {
    words.push_back(static_cast<uint32_t>(port));
    if (bits > 32) words.push_back(static_cast<uint32_t>(port >> 32));
}

template <std::size_t N>
void append(std::vector<uint32_t>& words, const VlWide<N>& port, size_t) {
    for (size_t n = 0; n < N; n++) words.push_back(port[n]);
}

uint64_t take(std::vector<uint32_t>& kept, uint32_t* words) {
    const uint64_t count = kept.size();
    if (words != nullptr) {
        std::copy(kept.begin(), kept.end(), words);
        kept.clear();
    }
    return count;
}

struct Chip {
    VerilatedContext context;
    Vchip model{&context, "chip"};
    std::deque<uint64_t> commands, events;
    std::vector<uint32_t> logits, activity, changes;
    uint64_t cycles = 0;
    bool recording = false;

    void clock() {
        model.clk = 1;
        model.eval();
        model.clk = 0;
        model.eval();
    }

    // Keep what everybody is doing in this cycle, if it is not what they did before.
    void record() {
        std::vector<uint32_t> now;
        append(now, model.activity, ACTIVITY_BITS);
        if (now == activity) return;
        append(changes, cycles, 64);
        changes.insert(changes.end(), now.begin(), now.end());
        activity.swap(now);
    }

    // One cycle: what is transferred is what both sides show before the edge.
    void cycle() {
        model.commands___05Fvalid = !commands.empty();
        if (!commands.empty()) model.commands___05Fpayload = commands.front();
        model.eval();
        const bool taken = model.commands___05Fvalid && model.commands___05Fready;
        if (model.events___05Fvalid) events.push_back(model.events___05Fpayload);
        if (model.logits___05Fvalid) append(logits, model.logits___05Fpayload, LOGITS_BITS);
        if (recording) record();
        clock();
        cycles++;
        if (taken) commands.pop_front();
    }
};

}  // namespace

extern "C" {

// The memory images are read from `images` when the model is first evaluated.
Chip* chip_new(const char* images) {
    char* before = getcwd(nullptr, 0);
    if (before == nullptr || chdir(images) != 0) return nullptr;
    auto* chip = new Chip;
    chip->model.events___05Fready = 1;
    chip->model.rst = 1;
    chip->clock();
    chip->clock();
    chip->model.rst = 0;
    const bool back = chdir(before) == 0;
    free(before);
    if (back) return chip;
    delete chip;
    return nullptr;
}

void chip_delete(Chip* chip) { delete chip; }

void chip_command(Chip* chip, uint64_t command) { chip->commands.push_back(command); }

// Run until there is an event, or for `most` cycles; whether there is one.
int chip_run(Chip* chip, uint64_t most) {
    for (uint64_t n = 0; n < most && chip->events.empty(); n++) chip->cycle();
    return !chip->events.empty();
}

uint64_t chip_event(Chip* chip) {
    const uint64_t event = chip->events.front();
    chip->events.pop_front();
    return event;
}

uint64_t chip_cycles(const Chip* chip) { return chip->cycles; }

// Words of logits that have passed since the last call; copied and forgotten if `words` is not null.
uint64_t chip_logits(Chip* chip, uint32_t* words) { return take(chip->logits, words); }

void chip_record(Chip* chip, int on) {
    chip->recording = on;
    chip->activity.clear();
}

// Words of recorded changes, each a cycle (64 bits) and the activity from there on; likewise.
uint64_t chip_changes(Chip* chip, uint32_t* words) { return take(chip->changes, words); }

// The chip's counters, one to a word.
void chip_counters(const Chip* chip, uint32_t* words) {
    std::vector<uint32_t> counters;
    append(counters, chip->model.counters, COUNTER_BITS);
    std::copy(counters.begin(), counters.end(), words);
}
}
