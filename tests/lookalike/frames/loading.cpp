// SPDX-License-Identifier: Apache-2.0
//! Frames in what the dynamic loader binds, chooses, loads and unloads.

#include <dlfcn.h>
#include <sched.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <initializer_list>

#include "frames.hpp"
#include "late.hpp"

namespace {

using Plugin = void (*)(void (*)());

/// A plugin lies beside the program.
struct Loaded {
    explicit Loaded(const std::string& name) {
        Dl_info program{};
        dladdr(reinterpret_cast<void*>(touch), &program);
        const std::string path = program.dli_fname;
        handle = dlopen((path.substr(0, path.rfind('/')) + "/lib" + name + ".so").c_str(), RTLD_NOW);
        function = handle == nullptr ? nullptr : reinterpret_cast<Plugin>(dlsym(handle, name.c_str()));
        if (function == nullptr) {
            std::fprintf(stderr, "frames: %s\n", dlerror());
            std::exit(2);
        }
    }
    ~Loaded() { dlclose(handle); }

    void* handle;
    Plugin function;
};

}  // namespace

FRAME void first_call() {
    late_hook = touch;
    late_and_loud();
    STAYS;
}

FRAME void resolver() {
    late_hook = touch;
    late_and_chosen();
    STAYS;
}

FRAME void loaded_late() {
    const Loaded plugin("plugin_one");
    plugin.function(touch);
    // Unloaded only when the recorder has seen it.
    usleep(200'000);
}

void linger(useconds_t microseconds) {
    if (microseconds != 0) {
        usleep(microseconds);
    }
}

/// A plugin, and for how many microseconds it is there before and after it is called.
struct Turn {
    const char* name;
    useconds_t stay;
};

/// They have their code at the same addresses, with frames of different size.
[[gnu::always_inline]] inline void replace_each_other(std::initializer_list<Turn> turns) {
    Plugin before = nullptr;
    for (const auto& [name, stay] : turns) {
        const Loaded plugin(name);
        if (before != nullptr && before != plugin.function) {
            std::fprintf(stderr, "frames: %s was not loaded to where the other one was\n", name);
            std::exit(2);
        }
        before = plugin.function;
        linger(stay);
        plugin.function(touch);
        linger(stay);
    }
}

FRAME void reloaded() { replace_each_other({{"plugin_one", 0}, {"plugin_two", 0}, {"plugin_one", 0}, {"plugin_two", 0}}); }

/// The recorder sees the same one before and after the other one.
FRAME void back_again() { replace_each_other({{"plugin_one", 200'000}, {"plugin_two", 0}, {"plugin_one", 200'000}}); }

/// The recorder knows each before it is called, and what it remembers of the one it meets again at the other: it remembers
/// by processor.
FRAME void in_turn() {
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    sched_setaffinity(0, sizeof here, &here);
    replace_each_other({{"plugin_one", 200'000}, {"plugin_two", 200'000}, {"plugin_one", 200'000}});
}

const std::vector<Scenario> LOADING = {
    {"first-call", first_call, "touch late_and_loud first_call main _start"},
    // The symbol of what is chosen stands at the function that chooses.
    {"resolver", resolver, "touch late_and_chosen resolver main _start"},
    {"loaded-late", loaded_late, "touch plugin_one loaded_late main _start"},
    // One of the two at a time, in turn.
    {"reloaded", reloaded, "touch plugin_one|plugin_two reloaded main _start"},
    {"back-again", back_again, "touch plugin_one|plugin_two back_again main _start"},
    {"in-turn", in_turn, "touch plugin_one|plugin_two in_turn main _start"},
};
