#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installs a released ttnn that runs on mock devices, with no Tenstorrent card: install.py VERSION DIR [--python PY]
install.py --find prints an interpreter that ttnn has wheels for, or says where to get one.

Prints the file to source before a run. Quick when all is there; may be interrupted and started again at any time.
ttnn has wheels for CPython 3.10 and 3.12 alone; known to work are 0.66.0 and 0.68.0 to 0.81.1.
"""

import argparse
import fcntl
import hashlib
import pathlib
import shutil
import subprocess
import sys

import mock

PYTHONS = ("3.12", "3.10")
HERE = pathlib.Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version")
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--python", help="a CPython 3.10 or 3.12; looked for where it is not given")
    if sys.argv[1:] == ["--find"]:
        print(find_python())
        return
    options = parser.parse_args()
    folder = options.dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder / "installed"
        wanted = f"{options.version} {digest()}\n"
        if not stamp.exists() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            install(options.version, folder, options.python)
            stamp.write_text(wanted)
    print(folder / "env")


def install(version, folder, given_python):
    interpreter = folder / "venv" / "bin" / "python"
    if not runs(interpreter, "import pip"):
        python = given_python or find_python()
        run(python, "-m", "venv", "--clear", folder / "venv")
    check = f"import importlib.metadata as m, pytest, sys; sys.exit(m.version('ttnn') != '{version}')"
    if not runs(interpreter, check):
        run(interpreter, "-m", "pip", "install", "--quiet", f"ttnn=={version}", "pytest")
    (package,) = (folder / "venv" / "lib").glob("python3.*/site-packages/ttnn")
    mock.install_compiler(package, interpreter)
    mock.write_descriptors(folder)
    (folder / "env").write_text(environment(folder))


def environment(folder):
    """The text of the file to source. Slow dispatch is what all of the versions can do on mock devices."""
    descriptor = "${TT_METAL_MOCK_CLUSTER_DESC_PATH:-" + str(folder / "mesh8.yaml") + "}"
    return (
        f'export PATH="{folder}/venv/bin:$PATH"\n'
        f'export TT_METAL_CACHE="{folder}/cache"\n'
        f"export TT_METAL_SLOW_DISPATCH_MODE=1\n"
        f'export TT_METAL_MOCK_CLUSTER_DESC_PATH="{descriptor}"\n'
    )


def find_python():
    for version in PYTHONS:
        on_path = shutil.which(f"python{version}")
        pyenv = sorted((pathlib.Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
        for candidate in filter(None, [on_path, *pyenv]):
            if runs(candidate, f"import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '{version}')"):
                return candidate
    sys.exit(
        "install.py: no CPython 3.10 or 3.12 is here, and ttnn has wheels for no other. One of these gives one:\n"
        "  apt-get install python3.12 python3.12-venv    (Ubuntu 24.04; 3.10 on Ubuntu 22.04)\n"
        "  pyenv install 3.12"
    )


def runs(python, code):
    """Whether an interpreter is there and a piece of code ends well in it."""
    try:
        # What is found through a pyenv shim need not start; its complaints are of no use here.
        return subprocess.run([python, "-c", code], stderr=subprocess.DEVNULL, cwd="/").returncode == 0
    except OSError:
        return False


def run(*command):
    result = subprocess.run(command, stdout=sys.stderr)
    if result.returncode != 0:
        sys.exit(f"install.py: failed: {' '.join(map(str, command))}")


def digest():
    """Changes with these scripts."""
    text = b"".join((HERE / name).read_bytes() for name in ("install.py", "mock.py", "compiler.py"))
    return hashlib.sha256(text).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
