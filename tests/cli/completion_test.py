#!/usr/bin/env python3
"""`replk completion`: every command and option is in every shell's script, and bash completes with it."""
import re
import shutil
import subprocess
import unittest

from replk import ProgramTest, run

SHELLS = ("bash", "zsh", "fish")


def help_of(*command):
    return run(*command, "--help").stdout


def commands(*above):
    """All commands, as tuples of words, from the pages that people read."""
    yield above
    listed = re.search(r"Subcommands:\n((?:  .*\n?)*)", help_of(*above))
    for name in re.findall(r"^  (\w\S*)", listed[1], re.M) if listed else []:
        yield from commands(*above, name)


def options(*command):
    return set(re.findall(r"(--[a-z][a-z-]*)", re.sub(r"(?s)^.*?Options:", "", help_of(*command))))


class Completion(ProgramTest):
    def bash(self, *words):
        """What bash offers behind these words, the last of which is being typed."""
        script = self.succeed("completion", "bash")
        typed = " ".join(f"'{word}'" for word in ("replk", *words))
        done = subprocess.run(
            ["bash", "--norc", "-c", f'{script}\nCOMP_WORDS=({typed}) COMP_CWORD={len(words)}\n_replk\nprintf "%s\\n" "${{COMPREPLY[@]}}"'],
            capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.split()

    def test_every_command_and_option_is_in_every_script(self):
        found = list(commands())
        self.assertGreater(len(found), 12)
        for shell in SHELLS:
            script = self.succeed("completion", shell)
            for command in found:
                for word in command:
                    self.assertIn(word, script)
                for option in options(*command) - {"--images-", "--"}:
                    self.assertIn(option if shell != "fish" else f"-l {option[2:]} ", script, f"{shell}: {command}")

    def test_bash_completes(self):
        self.assertIn("classify", self.bash("cl"))
        self.assertEqual(sorted(self.bash("bench", "")), ["depthwise", "gradient", "model"])
        self.assertIn("--precision", self.bash("bench", "model", "--pre"))
        self.assertNotIn("--precision", self.bash("bench", "depthwise", "--pre"))
        self.assertEqual(self.bash("tune", "--pass", "i"), ["input-gradient"])
        self.assertIn("replknet-31b", self.bash("classify", "--model", "replknet-3"))
        self.assertEqual(self.bash("completion", ""), ["bash", "zsh", "fish"])
        self.assertEqual(self.bash("classify", "--no-such"), [])

    def test_other_shells_read_it(self):
        for shell in ("zsh", "fish"):
            if shutil.which(shell) is None:
                print(f"{shell} is not installed: its script is not read by it here")
                continue
            script = self.succeed("completion", shell)
            done = subprocess.run([shell, "-n", "/dev/stdin"], input=script, capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), shell)

    def test_json_and_faults(self):
        self.assertEqual(self.json("completion", "fish")["script"], self.succeed("completion", "fish"))
        self.refuse("completion", "csh", names=["csh"])
        self.refuse("completion")


if __name__ == "__main__":
    unittest.main()
