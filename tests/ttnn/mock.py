# SPDX-License-Identifier: Apache-2.0
"""What makes an installed ttnn run on mock devices: a stand-in for the kernel compiler, and cluster descriptors."""

import pathlib
import re

TOOLS = ("riscv-tt-elf-g++", "riscv-tt-elf-gcc", "riscv-tt-elf-objcopy")
# Chip, channel, chip, channel: the cables of eight chips as a mesh of 2 by 4.
CABLES = [
    (0, 4, 1, 9),
    (0, 5, 4, 5),
    (0, 6, 1, 11),
    (0, 7, 4, 7),
    (0, 9, 2, 4),
    (0, 11, 2, 6),
    (1, 4, 5, 4),
    (1, 6, 5, 6),
    (2, 8, 6, 8),
    (2, 9, 3, 4),
    (2, 10, 6, 10),
    (2, 11, 3, 6),
    (3, 9, 7, 9),
    (3, 11, 7, 11),
    (4, 4, 5, 9),
    (4, 6, 5, 11),
    (4, 9, 6, 4),
    (4, 11, 6, 6),
    (6, 9, 7, 4),
    (6, 11, 7, 6),
]


def install_compiler(package, interpreter):
    """Puts compiler.py where ttnn looks for its compiler, answering with the version that this ttnn wants."""
    version_file = package / "tt_metal" / "sfpi-version"
    found = re.search(r"sfpi_version='([^']+)'", version_file.read_text()) if version_file.exists() else None
    source = (pathlib.Path(__file__).resolve().parent / "compiler.py").read_text()
    source = source.replace("#!/usr/bin/env python3", f"#!{interpreter}", 1)
    source = source.replace('VERSION = "7.0.0"', f'VERSION = "{found.group(1) if found else "7.0.0"}"', 1)
    folder = package / "runtime" / "sfpi" / "compiler" / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOOLS:
        tool = folder / name
        tool.write_text(source)
        tool.chmod(0o755)


def write_descriptors(folder):
    """single.yaml is one Wormhole n150; mesh8.yaml is eight Blackhole p150."""
    (folder / "single.yaml").write_text(
        descriptor("wormhole_b0", "n150", board_code=0x18, harvested=(64, 0, 0), cables=[], chips=1)
    )
    (folder / "mesh8.yaml").write_text(
        descriptor("blackhole", "p150", board_code=0x41, harvested=(0, 288, 2), cables=CABLES, chips=8)
    )


def descriptor(arch, board, board_code, harvested, cables, chips):
    """A cluster descriptor in YAML. The bits from 36 up of a board's id say of which type it is."""
    tensix, ethernet, pcie = harvested
    masks = (
        f"noc_translation: true, harvest_mask: {tensix}, dram_harvesting_mask: 0, eth_harvesting_mask: {ethernet}, "
        f"pcie_harvesting_mask: {pcie}, l2cpu_harvesting_mask: 0"
    )
    each = range(chips)
    lines = [
        "arch:",
        *(f"  {chip}: {arch}" for chip in each),
        *(["chips:", "  0: [0, 0, 0, 0]"] if chips == 1 else ["chips: {}"]),
        "chip_unique_ids:",
        *(f"  {chip}: {5000 + chip}" for chip in each),
        "ethernet_connections:" if cables else "ethernet_connections: []",
        *(line for cable in cables for line in cable_lines(*cable)),
        "ethernet_connections_to_remote_devices: []",
        "chips_with_mmio:",
        *(f"  - {chip}: {chip}" for chip in each),
        "io_device_type: PCIe",
        "harvesting:",
        *(f"  {chip}: {{{masks}}}" for chip in each),
        "chip_to_boardtype:",
        *(f"  {chip}: {board}" for chip in each),
        "chip_to_bus_id:",
        *(f"  {chip}: 0x{1 + 0x20 * chip:04x}" for chip in each),
        "boards:",
        *(line for chip in each for line in board_lines((board_code << 36) | (chip + 1), board, chip)),
        "asic_locations:",
        *(f"  {chip}: 0" for chip in each),
    ]
    return "\n".join(lines) + "\n"


def cable_lines(chip_a, channel_a, chip_b, channel_b):
    ends = ((chip_a, channel_a), (chip_b, channel_b))
    return ["  -", *(line for chip, channel in ends for line in (f"    - chip: {chip}", f"      chan: {channel}"))]


def board_lines(board_id, board, chip):
    return ["  -", f"    - board_id: {board_id}", f"    - board_type: {board}", "    - chips:", f"        - {chip}"]
