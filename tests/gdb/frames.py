# SPDX-License-Identifier: Apache-2.0
"""Run by gdb: writes the frames of each hit of the probed functions, as gdb unwinds them.

FRAMES_LIBRARY    file name of the library that holds the functions
FRAMES_FUNCTIONS  their mangled names, separated by spaces
FRAMES_EVERY      writes the first hit, and from there on every so manyth
FRAMES_OUT        one line a hit: the function, then module file name and address in the module for each frame
Hits count only once BUFTRACE_READY_FILE is there, as they do for a tracer that attaches then.
"""

import os
import pathlib
import subprocess

import gdb

library = os.environ["FRAMES_LIBRARY"]
functions = os.environ["FRAMES_FUNCTIONS"].split()
ready = os.environ["BUFTRACE_READY_FILE"]
every = int(os.environ["FRAMES_EVERY"])
hits_seen = 0
out = open(os.environ["FRAMES_OUT"], "w")
segments = {}


def load_segments(path):
    """(file offset, size in the file, address) of each loaded segment, by readelf."""
    if path not in segments:
        text = subprocess.run(["readelf", "-lW", path], check=True, capture_output=True, text=True).stdout
        rows = [line.split() for line in text.splitlines() if line.split()[:1] == ["LOAD"]]
        segments[path] = [(int(row[1], 16), int(row[4], 16), int(row[2], 16)) for row in rows]
    return segments[path]


def place(pc):
    """Module file name and address in the module."""
    for line in pathlib.Path(f"/proc/{gdb.selected_inferior().pid}/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        start, end = (int(number, 16) for number in fields[0].split("-"))
        if start <= pc < end and len(fields) == 6:
            at = pc - start + int(fields[2], 16)
            for offset, size, address in load_segments(fields[5]):
                if offset <= at < offset + size:
                    return f"{os.path.basename(fields[5])}+{at - offset + address:#x}"
    return f"?+{pc:#x}"


class Hit(gdb.Breakpoint):
    def __init__(self, function):
        address = int(gdb.parse_and_eval(f"(unsigned long)&'{function}'"))
        super().__init__(f"*{address:#x}", internal=True)
        self.function = function

    def stop(self):
        global hits_seen
        if not os.path.exists(ready):
            return False
        hits_seen += 1
        if hits_seen % every == 1 % every:
            frames, frame = [], gdb.newest_frame()
            while frame is not None and frame.is_valid():
                # Inlined functions and tail calls have no frame on the stack: gdb infers them from DWARF.
                if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
                    frames.append(place(frame.pc()))
                frame = frame.older()
            out.write(" ".join([self.function, *frames]) + "\n")
            out.flush()
        return False


for setting in [
    "pagination off",
    "confirm off",
    "backtrace past-main on",
    "backtrace past-entry on",
    "backtrace limit unlimited",
    "print inferior-events off",
    "stop-on-solib-events 1",
    "debuginfod enabled off",
]:
    gdb.execute(f"set {setting}")
gdb.execute("handle all nostop noprint pass", to_string=True)
gdb.execute("handle SIGTRAP stop", to_string=True)
gdb.execute("run")
while gdb.selected_inferior().pid and not any(
    os.path.basename(module.filename or "") == library for module in gdb.objfiles()
):
    gdb.execute("continue", to_string=True)
gdb.execute("set stop-on-solib-events 0")
hits = [Hit(function) for function in functions]
gdb.execute("continue", to_string=True)
