#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stands in for the RISC-V compiler of kernels. Mock chips execute nothing, so there is nothing to compile: it says its
version, and writes the smallest ELF file that ttnn's kernel loader accepts."""

import os
import struct
import sys

VERSION = "7.0.0"
TEXT_AT, DATA_AT = 0x4000, 0xFFB00000
SECTION_NAMES = b"\0.text\0.data\0.symtab\0.strtab\0.shstrtab\0.rela.text\0"
SYMBOL_NAMES = b"\0_start\0__kernel_init_local_l1_base\0__fw_export_end_text\0"
ELF_HEADER, PROGRAM_HEADER, SECTION_HEADER = 52, 32, 40


def main(arguments):
    if "--version" in arguments or "-dumpversion" in arguments:
        print(f"riscv-tt-elf-g++ (tenstorrent/sfpi:{VERSION}) 15.1.0")
        return
    output = value(arguments, "-o")
    dependencies = value(arguments, "-MF")
    if dependencies is None and output and "-MMD" in arguments:
        dependencies = os.path.splitext(output)[0] + ".d"
    if dependencies:
        with open(dependencies, "w") as file:
            file.write(f"{output or 'none'}:\n")
    if output:
        linked = ".elf" in os.path.basename(output) and "-c" not in arguments
        with open(output, "wb") as file:
            file.write(kernel() if linked else b"")


def value(arguments, flag):
    return arguments[arguments.index(flag) + 1] if flag in arguments else None


def kernel():
    """A program of sixteen instructions that do nothing, with the symbols that the loader looks for."""
    text, data = struct.pack("<I", 0x13) * 16, bytes(16)
    text_end = TEXT_AT + len(text)
    symbols = (
        bytes(16)
        + symbol(b"_start", TEXT_AT, len(text), 0x12)
        + symbol(b"__kernel_init", text_end, 0, 0x10)
        + symbol(b"__fw_export", text_end, 0, 0x10)
    )
    body, at = b"", {}
    for name, content in (
        ("text", text),
        ("data", data),
        ("symtab", symbols),
        ("strtab", SYMBOL_NAMES),
        ("shstrtab", SECTION_NAMES),
    ):
        at[name] = ELF_HEADER + 2 * PROGRAM_HEADER + len(body)
        body += content
    body += bytes(-len(body) % 4)
    sections = (
        section("", 0, 0, 0, 0, 0, align=0)
        + section("text", 1, 6, TEXT_AT, at["text"], len(text))
        + section("data", 1, 3, DATA_AT, at["data"], len(data))
        + section("symtab", 2, 0, 0, at["symtab"], len(symbols), link=4, info=1, entry=16)
        + section("strtab", 3, 0, 0, at["strtab"], len(SYMBOL_NAMES), align=1)
        + section("shstrtab", 3, 0, 0, at["shstrtab"], len(SECTION_NAMES), align=1)
        + section("rela.text", 4, 0x40, 0, at["symtab"], 0, link=3, info=1, entry=12)
    )
    sections_at = ELF_HEADER + 2 * PROGRAM_HEADER + len(body)
    riscv, executable = 243, 2
    header = b"\x7fELF\1\1\1" + bytes(9)
    header += struct.pack(
        "<HHIIIIIHHHHHH",
        executable,
        riscv,
        1,
        TEXT_AT,
        ELF_HEADER,
        sections_at,
        0,
        ELF_HEADER,
        PROGRAM_HEADER,
        2,
        SECTION_HEADER,
        7,
        5,
    )
    segments = struct.pack("<8I", 1, at["text"], TEXT_AT, TEXT_AT, len(text), len(text), 5, 4)
    segments += struct.pack("<8I", 1, at["data"], DATA_AT, text_end, len(data), len(data), 6, 4)
    return header + segments + body + sections


def symbol(name, address, size, info):
    return struct.pack("<IIIBBH", SYMBOL_NAMES.index(name), address, size, info, 0, 1)


def section(name, kind, flags, address, at, size, link=0, info=0, align=4, entry=0):
    index = SECTION_NAMES.index(f".{name}\0".encode()) if name else 0
    return struct.pack("<10I", index, kind, flags, address, at, size, link, info, align, entry)


main(sys.argv[1:])
