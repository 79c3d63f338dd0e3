#!/usr/bin/env python3
"""What Debian's packages have and no source is: the program's manuals and completions, made by itself, and the papers of
its packages. debian.py PROGRAM OUT writes OUT/program and OUT/doc, as Debian.cmake installs them."""
import datetime
import gzip
import json
import pathlib
import re
import subprocess
import sys

import bill

HOUSE = pathlib.Path(__file__).resolve().parents[1]
MAINTAINER = "The libreplk_cpu authors <libreplk-cpu@replk.invalid>"
COMPLETIONS = {
    "bash": "bash-completion/completions/replk",
    "zsh": "zsh/vendor-completions/_replk",
    "fish": "fish/vendor_completions.d/replk.fish",
}
COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: libreplk_cpu

Files: *
Copyright: 2026 the libreplk_cpu authors
License: {name}
{text}

Files: usr/lib/*/replk/libdnnl*
Copyright: 2016-2023 Intel Corporation
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
 What it carries of others is in THIRD-PARTY-PROGRAMS, beside this file.
"""


def output(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_packed(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(text.encode())


def commands(program, *above):
    """Every command as words: (), ("tune",), ("bench",), ("bench", "model"), .."""
    page = output(program, *above, "--help")
    yield above, page
    listed = re.search(r"^Subcommands:\n((?:  .*\n?)*)", page, re.M)
    for name in re.findall(r"^  (\w\S*)", listed[1], re.M) if listed else []:
        yield from commands(program, *above, name)


def manual(program, words, page, version):
    """Of a command, by help2man: `man replk`, `man replk-bench-model`."""
    about = page.splitlines()[0].split(". ")[0].split(";")[0].rstrip(".")
    text = output("help2man", "--no-info", "--section=1", "--source=libreplk_cpu", "--manual=libreplk_cpu",
                  f"--version-string={version}", f"--name={about[0].lower() + about[1:]}", " ".join([str(program), *words]))
    # Its title and name are of the words that were run.
    title = "-".join(["replk", *words])
    text = re.sub(r'^\.TH \S+(?: \S+)*? "1"', f'.TH {title.upper()} "1"', text, count=1, flags=re.M)
    return re.sub(r"^.* \\- ", rf"{title} \\- ", text, count=1, flags=re.M)


def indented(text):
    return "\n".join(f" {line}" if line.strip() else " ." for line in text.splitlines())


def main():
    program, out = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    version = output(program, "--version").split()[-1]
    for words, page in commands(program):
        write_packed(out / "program/man/man1" / ("-".join(["replk", *words]) + ".1.gz"), manual(program, words, page, version))
    for shell, place in COMPLETIONS.items():
        write(out / "program" / place, output(program, "completion", shell))
    name, _, text = (HOUSE / "LICENSE").read_text().partition("\n")
    write(out / "doc/copyright", COPYRIGHT.format(name=name.split()[0], text=indented(text.strip())))
    others = program.parent / "onednn/share/doc/onednn/THIRD-PARTY-PROGRAMS"
    if others.exists():
        write_packed(out / "doc/THIRD-PARTY-PROGRAMS.gz", others.read_text(errors="replace"))
    made = json.dumps(bill.bill("deb", version, system_onednn=not others.exists()), indent=1)
    write_packed(out / "doc/bill.cdx.json.gz", made + "\n")
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S +0000")
    write_packed(out / "doc/changelog.gz",
                 f"replk ({version}) unstable; urgency=medium\n\n  * Release {version}.\n\n -- {MAINTAINER}  {date}\n")


if __name__ == "__main__":
    main()
