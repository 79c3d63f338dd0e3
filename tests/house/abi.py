#!/usr/bin/env python3
"""The ABI of a replk.h, a line each: functions and callbacks with their types, values of enumerations, and where each
member of each structure lies, as the compiler has it. abi.py CC HEADER prints it; tests/house/abi/ keeps that of every release
(CONTRIBUTING.md, A release)."""
import pathlib
import re
import subprocess
import sys
import tempfile

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
PREPROCESSOR = re.compile(r"^#(?:.*\\\n)*.*$", re.M)
STRUCT = re.compile(r"typedef struct (\w+) \{(.*?)\} \1;", re.S)
ENUM = re.compile(r"\benum\b[^{;]*\{(.*?)\}", re.S)
FUNCTION = re.compile(r"REPLK_API\s+([^;{]*?)(\w+)\(([^;]*)\);")
CALLBACK = re.compile(r"typedef\s+([\w ]+?)\s*\(\*(\w+)\)\(([^;]*)\);")


def parameter(text):
    """Its type, without its name, which no ABI has."""
    words = " ".join(text.split())
    named = re.fullmatch(r"(.*[\s*])(\w+)", words)
    return named[1].strip() if named else words


def signature(result, name, parameters):
    return f"{result.strip()} {name}({', '.join(parameter(p) for p in parameters.split(','))})"


def members(body):
    """Names of a structure's members, in order."""
    for declaration in body.split(";"):
        pointer = re.search(r"\(\*(\w+)\)\(", declaration)
        if pointer:
            yield pointer[1]
            continue
        for part in declaration.split(","):
            name = re.search(r"(\w+)\s*(?:\[\w+\])?\s*$", part)
            if name:
                yield name[1]


def dump(compiler, header):
    """Sorted lines."""
    text = PREPROCESSOR.sub("", COMMENT.sub("", pathlib.Path(header).read_text()))
    lines = {signature(*found) for found in FUNCTION.findall(text)} | {"callback " + signature(*found) for found in CALLBACK.findall(text)}
    prints = []
    for name, body in STRUCT.findall(text):
        prints.append(f'printf("struct {name}: %zu bytes\\n", sizeof({name}));')
        prints += [f'printf("{name}.{member}: %zu bytes at %zu\\n", sizeof((({name}*)0)->{member}), offsetof({name}, {member}));'
                   for member in members(body)]
    for body in ENUM.findall(text):
        prints += [f'printf("{name} = %d\\n", (int){name});' for name in re.findall(r"\bREPLK_\w+", body)
                   if not re.search(rf"<<\s*{name}", body)]
    with tempfile.TemporaryDirectory() as folder:
        source, program = pathlib.Path(folder) / "abi.c", pathlib.Path(folder) / "abi"
        source.write_text(f'#include "{pathlib.Path(header).resolve()}"\n#include <stdio.h>\nint main(void) {{\n' + "\n".join(prints) +
                          "\nreturn 0;\n}\n")
        subprocess.run([compiler, "-o", program, source], check=True)
        lines |= set(subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines())
    return sorted(lines)


def breaks(old, new):
    """What a program that was compiled against the old ABI cannot live with. A structure that has its size in front may grow
    at its end."""
    sized = {line.split(".")[0] for line in old if ".struct_size:" in line}
    for line in old:
        grown = re.match(r"struct (\w+): (\d+) bytes", line)
        if line in new:
            continue
        if grown and grown[1] in sized:
            now = [int(m[2]) for m in (re.match(r"struct (\w+): (\d+) bytes", other) for other in new) if m and m[1] == grown[1]]
            if now and now[0] >= int(grown[2]):
                continue
        yield line


def functions(lines):
    """The names that a library of this ABI exports."""
    return {found[1] for found in (re.match(r"(?!callback )[\w* ]+?(\w+)\(", line) for line in lines) if found}


if __name__ == "__main__":
    print("\n".join(dump(*sys.argv[1:3])))
