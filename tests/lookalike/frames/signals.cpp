// SPDX-License-Identifier: Apache-2.0
//! Frees in signal handlers; at last in one that runs behind each single instruction.

#include <csignal>
#include <cstdlib>

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "frames.hpp"
#include "late.hpp"

/// Its first instruction raises a signal; see shapes.S.
extern "C" void traps();

namespace {

/// The flag that makes the processor trap behind each instruction.
constexpr long TRAP = 0x100;

void handle(int signal, void (*handler)(int, siginfo_t*, void*), int flags = 0) {
    struct sigaction action {};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    sigaction(signal, &action, nullptr);
}

std::uintptr_t instruction(void* context) {
    return static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
}

}  // namespace

FRAME void on_signal(int, siginfo_t*, void*) {
    touch();
    STAYS;
}

FRAME void on_outer_signal(int, siginfo_t*, void*) {
    std::raise(SIGUSR2);
    STAYS;
}

FRAME void on_trap(int, siginfo_t*, void* context) {
    touch();
    // Over the two bytes of ud2.
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] += 2;
}

FRAME void on_step(int, siginfo_t*, void* context) {
    interrupted.push_back(instruction(context));
    touch();
    // Slow enough for any recorder: this is not about loss.
    usleep(20);
}

FRAME void handler() {
    handle(SIGUSR1, on_signal);
    std::raise(SIGUSR1);
    STAYS;
}

FRAME void handler_in_handler() {
    handle(SIGUSR1, on_outer_signal);
    handle(SIGUSR2, on_signal);
    std::raise(SIGUSR1);
    STAYS;
}

FRAME void at_first_instruction() {
    handle(SIGILL, on_trap);
    traps();
    STAYS;
}

FRAME void on_other_stack() {
    constexpr std::size_t BYTES = 1 << 16;
    stack_t stack{};
    stack.ss_sp = mmap(nullptr, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack.ss_size = BYTES;
    sigaltstack(&stack, nullptr);
    handle(SIGUSR1, on_signal, SA_ONSTACK);
    std::raise(SIGUSR1);
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, nullptr);
}

/// Calls a function that is not bound yet: through the program's stub and the loader's binding, to the function.
FRAME void step_through_binding() {
    asm volatile("pushfq; orq %0, (%%rsp); popfq" : : "i"(TRAP) : "memory", "cc");
    late_and_quiet();
    // These are interrupted too, so the unwind table must know of them.
    asm volatile(
        "pushfq; .cfi_adjust_cfa_offset 8; andq %0, (%%rsp); popfq; .cfi_adjust_cfa_offset -8"
        :
        : "i"(~TRAP)
        : "memory", "cc");
}

FRAME void each_instruction() {
    handle(SIGTRAP, on_step);
    step_through_binding();
    STAYS;
}

const std::vector<Scenario> SIGNALS = {
    {"handler", handler, "touch on_signal handler main _start"},
    {"handler-in-handler", handler_in_handler, "touch on_signal on_outer_signal handler_in_handler main _start"},
    {"first-instruction", at_first_instruction, "touch on_trap traps at_first_instruction main _start"},
    {"other-stack", on_other_stack, "touch on_signal on_other_stack main _start"},
    // What is between the two is what was interrupted.
    {"each-instruction", each_instruction, "touch on_step step_through_binding each_instruction main _start"},
};
