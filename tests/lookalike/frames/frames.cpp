// SPDX-License-Identifier: Apache-2.0
//! frames SCENARIO...: runs scenarios one after another, and tells of each in a line of the truth file (see attach.py).

#include "frames.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../src/api.h"

std::vector<std::uintptr_t> interrupted;

namespace {

constexpr std::uint64_t PAGE = 2048;

la_mesh* mesh;
std::uint64_t size;
std::atomic<int> touches;

const char* variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

void wait_for_tracer() {
    if (const std::string ready = variable("BUFTRACE_READY_FILE"); !ready.empty()) {
        std::FILE* file = std::fopen((ready + ".new").c_str(), "w");
        std::fprintf(file, "%d\n", getpid());
        std::fclose(file);
        std::rename((ready + ".new").c_str(), ready.c_str());
    }
    if (const char* go = variable("BUFTRACE_GO_FILE"); *go != '\0') {
        while (access(go, F_OK) != 0) {
            usleep(1000);
        }
    }
}

void tell(const Scenario& scenario) {
    std::FILE* truth = std::fopen(variable("BUFTRACE_TRUTH"), "a");
    if (truth == nullptr) {
        return;
    }
    std::fprintf(truth, R"({"scenario": "%s", "size": %)" PRIu64 R"(, "touches": %d, "frames": "%s", "interrupted": [)",
        scenario.name, size, touches.load(), scenario.frames);
    const char* separator = "";
    for (const std::uintptr_t address : interrupted) {
        std::fprintf(truth, "%s\"%s\"", separator, place(address).c_str());
        separator = ", ";
    }
    std::fprintf(truth, "]}\n");
    std::fclose(truth);
}

const Scenario* find(const char* name) {
    for (const auto* list : {&SHAPES, &EXCEPTIONS, &SIGNALS, &LOADING, &THREADS}) {
        for (const Scenario& scenario : *list) {
            if (std::strcmp(scenario.name, name) == 0) {
                return &scenario;
            }
        }
    }
    std::fprintf(stderr, "frames: there is no scenario %s\n", name);
    std::exit(2);
}

}  // namespace

std::string place(std::uintptr_t address) {
    Dl_info info{};
    if (dladdr(reinterpret_cast<void*>(address), &info) == 0) {
        return "?";
    }
    char offset[32];
    std::snprintf(offset, sizeof offset, "+0x%" PRIxPTR, address - reinterpret_cast<std::uintptr_t>(info.dli_fbase));
    const char* slash = std::strrchr(info.dli_fname, '/');
    return (slash == nullptr ? info.dli_fname : slash + 1) + std::string(offset);
}

FRAME void touch() {
    touches++;
    la_tensor_drop(la_tensor_create(mesh, 0, size, PAGE));
    STAYS;
}

int main(int count, char** names) {
    mesh = la_mesh_open(1);
    la_log_enable(0);
    // What is bound and set up on first use is so before a scenario runs.
    size = PAGE;
    touch();
    wait_for_tracer();
    for (int number = 1; number < count; number++) {
        const Scenario* scenario = find(names[number]);
        size = PAGE * (number + 1);
        touches = 0;
        interrupted.clear();
        scenario->run();
        tell(*scenario);
    }
    la_mesh_close(mesh);
    // The recorder reads what a stack needs while the process lives.
    usleep(300'000);
    la_mesh_drop(mesh);
    return 0;
}
