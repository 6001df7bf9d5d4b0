# SPDX-License-Identifier: Apache-2.0
"""Prints code objects' line tables and what Python makes of them: run by each version, the outputs make lines.txt."""

import sys

SOURCE = '''
def plain(a, b):
    c = a + b
    return c


@decorator(
    one,
    two,
)
def spread(
    first,
    second=None,
):
    """Text."""
    result = call(
        first,
        second=[
            item
            for item in first
            if item
        ],
    )

    try:
        for item in result:
            with open(item) as file:
                yield (
                    file.read()
                )
    except (ValueError,
            TypeError) as error:
        raise RuntimeError from error
    finally:
        del result


class Thing(Base):
    field = lambda self: (
        self.a,


        self.b)

    async def method(self, *arguments, **keywords):
        async for item in self.field:
            await item; await item
        return (lambda: [
            1 for _ in ()])


''' + "def distant():\n    x = 1\n" + "\n" * 300 + "    y = (\n" + "\n" * 150 + "        x)\n    while x:\n        x -= 1\n    return y\n"

VERSION = "%d.%d" % sys.version_info[:2]


def show(code):
    lines = " ".join(f"{start}-{end}:{line}" for start, end, line in code.co_lines())
    print(VERSION, code.co_name, code.co_firstlineno, code.co_linetable.hex(), lines)
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            show(constant)


show(compile(SOURCE, "source.py", "exec"))
