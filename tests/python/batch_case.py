"""What tests of replk.batch share: a folder, and jobs of nano in it."""
import contextlib
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from needs import needs

needs("numpy", "apt-get install python3-numpy")
needs("pyarrow", "pip install pyarrow, or ./run test with REPLK_TEST_FRAMEWORKS=1")

import pyarrow.parquet as pq  # noqa: E402

from replk.batch.__main__ import main  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
NANO = ROOT / "models" / "replknet-nano.safetensors"
LONG = os.environ.get("REPLK_SWEEP") == "long"
QUICK = ["--batch", "4", "--threads", "1", "--runs", "2", "--tune", "off"]


def command(*arguments):
    return [sys.executable, "-m", "replk.batch", *map(str, arguments)]


def run(*arguments):
    """The command in this process, which is quicker."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(map(str, arguments)))
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def of_nano(*arguments):
    return [*arguments, "--model", "replknet-nano", "--weights", NANO]


def stamps(job):
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (job / "parts").glob("*.parquet")}


class InAFolder(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, True)

    def job(self, name, *arguments, code=0):
        """Runs a job of nano; its rows."""
        out = self.folder / name
        done = run("run", *of_nano(*arguments), "--out", out, *QUICK)
        self.assertEqual(done.returncode, code, done.stderr)
        return pq.read_table(out / "parts").sort_by("index")

    def refused(self, words, *arguments):
        done = run(*arguments)
        self.assertEqual(done.returncode, 2, done.stderr)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        for word in words:
            self.assertIn(word, lines[0])
