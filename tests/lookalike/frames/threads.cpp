// SPDX-License-Identifier: Apache-2.0
//! Frames of threads, of a thread that ends, of a process that forks, and of a stack of the program's own making.

#include <pthread.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "frames.hpp"

extern "C" void descend(int depth);

struct Touching {
    __attribute__((noinline)) ~Touching() {
        touch();
        STAYS;
    }
};

namespace {

ucontext_t outside, inside;

}  // namespace

FRAME void works() {
    for (int number = 0; number < 50; number++) {
        descend(10);
        // Slow enough for any recorder: this is not about loss.
        usleep(500);
    }
    STAYS;
}

/// Eight at once.
FRAME void threads() {
    std::vector<std::thread> running;
    for (int number = 0; number < 8; number++) {
        running.emplace_back(works);
    }
    for (std::thread& thread : running) {
        thread.join();
    }
}

FRAME void* leaves_early(void*) {
    const Touching object;
    pthread_exit(nullptr);
}

FRAME void thread_exit() {
    pthread_t thread{};
    pthread_create(&thread, nullptr, leaves_early, nullptr);
    pthread_join(thread, nullptr);
}

/// The child is another process, which nobody asked to record.
FRAME void forks() {
    touch();
    const pid_t child = fork();
    if (child == 0) {
        touch();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) {
        std::exit(2);
    }
    touch();
    STAYS;
}

FRAME void in_coroutine() {
    touch();
    swapcontext(&inside, &outside);
    touch();
    STAYS;
}

FRAME void coroutine() {
    static char stack[1 << 16];
    getcontext(&inside);
    inside.uc_stack.ss_sp = stack;
    inside.uc_stack.ss_size = sizeof stack;
    inside.uc_link = &outside;
    makecontext(&inside, in_coroutine, 0);
    swapcontext(&outside, &inside);
    swapcontext(&outside, &inside);
}

const std::vector<Scenario> THREADS = {
    {"threads", threads, "touch descend*10 works"},
    {"thread-exit", thread_exit, "touch Touching::~Touching() leaves_early"},
    {"forks", forks, "touch forks main _start"},
    {"coroutine", coroutine, "touch in_coroutine"},
};
