#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the look-alike of TT-Metal's library in all its variants, OUT_DIR/VARIANT/libtt_metal.so, and the program with
stacks that are hard to walk, OUT_DIR/frames/frames and OUT_DIR/frames-clang/frames, which uses the variant `pimpl`.

usage: build.py [--check] [--only VARIANT] OUT_DIR

Needs Python 3.10 and g++ alone. What is up to date is not built again. --check says which of the names in symbols.txt,
which are the released libraries' own, a variant does not export.
"""

import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SOURCES = sorted((HERE / "src").glob("*.cpp"))
PROGRAM_SOURCES = [HERE / "frames" / f"{name}.cpp" for name in "frames exceptions loading shapes signals threads".split()]
PROGRAM_SOURCES.append(HERE / "frames" / "shapes.S")
# The released libraries have neither frame pointers, nor stack protectors, nor landing pads for indirect branches.
# Distributions change these defaults, so all are said.
COMPILE = "-std=c++20 -O2 -fPIC -fomit-frame-pointer -fno-stack-protector -fcf-protection=none -Wall -Wextra -Werror".split()
# The released libraries are clang's: these make g++ write functions, and their first instructions, as clang does.
LIKE_CLANG = "-fno-devirtualize-speculatively -fno-shrink-wrap -fno-tree-slp-vectorize".split()
# In the released libraries none of the functions is inlined into another one's; clang would, in code as small as this.
NOT_INLINED = ["-finline-hint-functions"]
LINK = "-shared -Wl,-soname,libtt_metal.so -Wl,--build-id=sha1 -pthread".split()
# From 0.66.0 on, the address of the released libraries' code is not its offset in the file. The number is above the end
# of the read-only segment before it.
MOVED = ["-Wl,--section-start=.init=0x20000"]

# Variant to compile flags and link flags.
VARIANTS = {
    # The two generations, with the layouts of 0.66.0 and 0.81.1.
    "buffer": (["-g0"], MOVED),
    "pimpl": (["-g0", "-DLOOKALIKE_PIMPL"], MOVED),
    # Every offset another one.
    "buffer-shuffled": (["-g0", "-DLOOKALIKE_SHUFFLED"], []),
    "pimpl-shuffled": (["-g0", "-DLOOKALIKE_SHUFFLED", "-DLOOKALIKE_PIMPL"], MOVED),
    # The same offsets as buffer-shuffled, and DWARF that tells them.
    "buffer-dwarf": (["-g", "-DLOOKALIKE_SHUFFLED"], []),
    # Two that are to be refused: sources disagree on the offsets; what lies at the offsets makes no sense.
    "unverifiable": (["-g0", "-DLOOKALIKE_MIRRORED"], []),
    "obscured": (["-g0", "-DLOOKALIKE_OBSCURED", "-DLOOKALIKE_PIMPL"], []),
    # A fork in which the buffer of each chip reports the free of memory that the mesh's buffer owns.
    "excess-reporting": (["-g0", "-DLOOKALIKE_EXCESS_REPORTING"], []),
    "excess-reporting-pimpl": (["-g0", "-DLOOKALIKE_EXCESS_REPORTING", "-DLOOKALIKE_PIMPL"], []),
    # Built where clang++ is there, and left out silently where it is not.
    "clang": (["-g0", "-DLOOKALIKE_PIMPL"], MOVED),
}

# The program's folders, one for each compiler.
PROGRAMS = ["frames", "frames-clang"]
# What the program links to is bound on first use. Nobody looks for its libraries elsewhere than where they are built.
PROGRAM_LINK = "-Wl,-z,lazy -Wl,-rpath,$ORIGIN -Wl,-rpath,$ORIGIN/../pimpl -Wl,--build-id=sha1 -pthread".split()
# The program's own libraries: source and flags. The two plugins differ in their function's name and frame alone.
PROGRAM_LIBRARIES = {
    "liblate.so": ("late.cpp", []),
    "libplugin_one.so": ("plugin.cpp", ["-DPLUGIN_NAME=plugin_one", "-DPLUGIN_FRAME=40"]),
    "libplugin_two.so": ("plugin.cpp", ["-DPLUGIN_NAME=plugin_two", "-DPLUGIN_FRAME=104"]),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("--only", choices=VARIANTS, action="append")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    problems = []
    for variant in options.only or VARIANTS:
        compiler = find_compiler(variant)
        if compiler is None:
            continue
        library = options.out_dir / variant / "libtt_metal.so"
        build(compiler, variant, library)
        if options.check:
            problems += check(variant, library)
    for name in [] if options.only else PROGRAMS:
        compiler = find_compiler(name)
        if compiler is not None:
            build_program(compiler, options.out_dir / name, options.out_dir / "pimpl")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def find_compiler(variant):
    """The compiler of a variant or program, or None for the one that is optional and not there."""
    if variant.endswith("clang"):
        return shutil.which("clang++")
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        sys.exit("build.py: g++ is needed (apt-get install g++)")
    return compiler


def build(compiler, variant, library):
    compile_flags, link_flags = VARIANTS[variant]
    common = [*COMPILE, *(NOT_INLINED if variant == "clang" else LIKE_CLANG)]
    digest = digest_of("src", compiler, common, compile_flags, link_flags)
    stamp = library.with_suffix(".stamp")
    if library.exists() and stamp.exists() and stamp.read_text() == digest:
        return
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        folder = pathlib.Path(folder)
        # No machine's paths get into the debug information.
        common = [*common, f"-ffile-prefix-map={HERE}=lookalike"]
        run_all(
            [compiler, *common, *compile_flags, "-c", f"src/{source.name}", "-o", str(folder / f"{source.stem}.o")]
            for source in SOURCES
        )
        linked = folder / library.name
        objects = [str(folder / f"{source.stem}.o") for source in SOURCES]
        run_all([[compiler, *LINK, *link_flags, *objects, "-o", str(linked)]])
        stamp.unlink(missing_ok=True)
        linked.replace(library)
        stamp.write_text(digest)


def build_program(compiler, folder, look_alike):
    digest = digest_of("frames", compiler, COMPILE, PROGRAM_LINK, PROGRAM_LIBRARIES)
    stamp = folder / "frames.stamp"
    if stamp.exists() and stamp.read_text() == digest:
        return
    folder.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as new:
        new = pathlib.Path(new)
        run_all(
            [compiler, *COMPILE, "-g0", "-shared", f"-Wl,-soname,{name}", *flags, f"frames/{source}", "-o", str(new / name)]
            for name, (source, flags) in PROGRAM_LIBRARIES.items()
        )
        objects = [str(new / f"{source.name}.o") for source in PROGRAM_SOURCES]
        run_all(
            [compiler, *COMPILE, "-g0", "-c", str(source), "-o", object]
            for source, object in zip(PROGRAM_SOURCES, objects)
        )
        libraries = [str(new / "liblate.so"), str(look_alike / "libtt_metal.so"), "-ldl"]
        run_all([[compiler, *PROGRAM_LINK, *objects, *libraries, "-o", str(new / "frames")]])
        for name in [*PROGRAM_LIBRARIES, "frames"]:
            (new / name).replace(folder / name)
    stamp.write_text(digest)


def run_all(commands):
    """Runs the commands, as many at a time as there are processors; the first that fails ends the script."""
    waiting = list(commands)
    running = []
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            command = waiting.pop(0)
            running.append((command, subprocess.Popen(command, cwd=HERE)))
        command, process = running.pop(0)
        if process.wait() != 0:
            for _, other in running:
                other.wait()
            sys.exit(f"build.py: failed: {' '.join(command)}")


def digest_of(folder, *parts):
    """Changes with the sources in a folder, the flags and this script."""
    digest = hashlib.sha256(repr(parts).encode())
    for file in [pathlib.Path(__file__), *sorted((HERE / folder).iterdir())]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def check(variant, library):
    """What is not as in the released libraries."""
    names = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    exported = {line.split()[-1] for line in names.splitlines()}
    wanted = wanted_names("LOOKALIKE_PIMPL" in " ".join(VARIANTS[variant][0]))
    return [f"{variant}: {name} is not exported" for name in wanted if name not in exported]


def wanted_names(pimpl):
    """The names for one generation, from symbols.txt: each line begins with `both`, `buffer` or `pimpl`."""
    lines = (HERE / "symbols.txt").read_text().splitlines()
    pairs = [line.split() for line in lines if line and not line.startswith("#")]
    return [name for generation, name in pairs if generation in ("both", "pimpl" if pimpl else "buffer")]


if __name__ == "__main__":
    sys.exit(main())
