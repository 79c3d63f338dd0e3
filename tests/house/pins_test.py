#!/usr/bin/env python3
"""What scripts download is pinned by hash: a mirror that serves something else is refused."""
import pathlib
import re
import subprocess
import unittest

HOUSE = pathlib.Path(__file__).resolve().parents[2]
REQUIREMENTS = ["bench/peers/requirements.txt", "docs/site/requirements.txt", "python/wheel-requirements.txt", "tests/frameworks.txt",
                "tests/torch-cpu.txt", "tests/torch.txt"]
SCRIPTS = ["run", "bench/run.py", "tests/emulate/emulate", "cmake/OneDnnWheels.cmake", "cmake/OnnxRuntimeHeaders.cmake"]
# Debian's packages are signed; what of them is fetched and not installed is pinned as well.
FETCHES = re.compile(r"\bpip\b.*\b(install|download)\b|\"\$\{install\[@\]\}\"|file\(DOWNLOAD|apt-get\b.*\b(source|download)\b|\b(curl|wget|urlopen)\b")
PINNED = re.compile(r'--require-hashes|"\$\{pinned\[@\]\}"')
COMPARED = re.compile(r"file\(SHA256|sha256sum -c")
UNPINNED = {
    # The kernel that the emulator boots: whichever Debian's security team has released last.
    'apt-get -q -o APT::Sandbox::User=root download "$package"',
    # NVIDIA's libraries, in the versions that the pinned torch names.
    'quietly "${install[@]}" torch;',
    '[python, "-m", "pip", "install", "-q", "torch"]',
}


def requirements(text):
    """(requirement, hashes) of each line, those that go on joined; an included file is its name and no hash."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        line = line.split("#")[0].strip()
        if line:
            yield line.split(" --hash")[0].strip(), re.findall(r"--hash=sha256:([0-9a-f]{64})\b", line)


class Pins(unittest.TestCase):
    def test_every_requirement_has_a_version_and_a_hash(self):
        for path in REQUIREMENTS:
            found = list(requirements((HOUSE / path).read_text()))
            self.assertTrue(found, path)
            for name, hashes in found:
                with self.subTest(file=path, requirement=name):
                    if name.startswith("-r "):
                        self.assertIn((HOUSE / path).parent.joinpath(name[3:]).resolve().relative_to(HOUSE).as_posix(), REQUIREMENTS)
                    else:
                        self.assertRegex(name, r"^[\w.-]+==[\w.+!-]+( ?;.*)?$")
                        self.assertTrue(hashes)

    def test_the_reader_sees_what_has_none(self):
        text = "a==1 \\\n    --hash=sha256:" + "0" * 64 + "\nb==2  # no hash\n"
        self.assertEqual(list(requirements(text)), [("a==1", ["0" * 64]), ("b==2", [])])

    def test_no_list_is_left_out(self):
        tracked = subprocess.run(["git", "-C", HOUSE, "grep", "-lE", "^[A-Za-z0-9_.-]+==[0-9]|^-r ", "--", "*.txt"],
                                 capture_output=True, text=True)
        if tracked.returncode == 0:  # not in a tree without git
            self.assertEqual(sorted(tracked.stdout.split()), sorted(REQUIREMENTS))

    def test_scripts_ask_for_hashes(self):
        """A line that fetches asks pip for hashes, or one of the next lines compares one."""
        unpinned = set(UNPINNED)
        for path in SCRIPTS:
            lines = (HOUSE / path).read_text().replace("\\\n", " ").splitlines()
            fetching = [i for i, line in enumerate(lines) if FETCHES.search(line.split(" || die")[0].split("#")[0])
                        and not re.search(r"message|STATUS|print|say\(|return \(f|f\"", line)]
            for i in fetching:
                if any(known in lines[i] for known in UNPINNED):
                    unpinned.discard(next(known for known in UNPINNED if known in lines[i]))
                    continue
                with self.subTest(script=path, line=lines[i].strip()):
                    self.assertTrue(PINNED.search(lines[i]) or any(COMPARED.search(line) for line in lines[i : i + 20]))
        self.assertEqual(unpinned, set(), "is no longer there")


if __name__ == "__main__":
    unittest.main()
