"""The C++ extension, compiled against the OpenVINO that is installed: its ABI is another with every release."""
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from .. import _c
from ..errors import NotFound

SOURCES = ("openvino/extension.cpp", "layer/layer.cpp", "layer/layer.hpp", "replk/replk.h")


def _roots():
    """Where the sources lie: in the wheel beside this file, in a checkout in their own folders."""
    here = Path(__file__).resolve().parent / "source"
    house = Path(__file__).resolve().parents[3]
    return [here, house / "integrations", house / "lib/include"]


def _source(name):
    for root in _roots():
        if (root / name).is_file():
            return root / name
    raise NotFound(f"replk.openvino: the source {name} is not in this package; the op in Python needs none")


def _openvino():
    """(directory of the package, its release)."""
    try:
        import openvino
    except ImportError as error:
        raise ImportError("replk.openvino: the package openvino is needed (pip install openvino)") from error
    return Path(openvino.__file__).resolve().parent, openvino.__version__


def extension_path():
    """Where the extension of this OpenVINO and this library lies, or would: in the cache directory."""
    _, release = _openvino()
    key = hashlib.sha256()
    for name in SOURCES:
        key.update(_source(name).read_bytes())
    for text in (release, os.fspath(_c.library_path().resolve())):
        key.update(text.encode())
    home = os.environ.get("REPLK_CACHE_DIR") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "replk"
    return Path(home) / f"openvino-{release.split('-')[0]}-{key.hexdigest()[:16]}.so"


def _command(compiler, package, output):
    """The compiler's call. Only the package's own headers and libraries, found by their names."""
    libraries = []
    for name in ("libopenvino.so.*", "libopenvino_onnx_frontend.so.*", "libtbb.so.*"):
        found = sorted((package / "libs").glob(name))
        if not found:
            raise NotFound(f"replk.openvino: {package} has no {name}; the op in Python needs none")
        libraries.append(os.fspath(found[0]))
    library = _c.library_path().resolve()
    return [
        *compiler, "-std=c++20", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-DOV_THREAD=OV_THREAD_TBB_ADAPTIVE",
        f"-I{_source('replk/replk.h').parent.parent}", "-isystem", os.fspath(package / "include"),
        os.fspath(_source("openvino/extension.cpp")), os.fspath(_source("layer/layer.cpp")), os.fspath(library), *libraries,
        f"-Wl,-rpath,{library.parent}:{package / 'libs'}", "-o", os.fspath(output),
    ]  # fmt: skip


def build():
    """The extension's path, compiled if it is not there (about a minute). NotFound where it cannot be, with the reason."""
    package, _ = _openvino()
    path = extension_path()
    if path.is_file():
        return path
    compiler = shlex.split(os.environ.get("CXX") or "g++")
    if shutil.which(compiler[0]) is None:
        raise NotFound(
            f"replk.openvino: there is no C++ compiler '{compiler[0]}' (CXX names another); the op in Python needs none"
        )
    if not (package / "include").is_dir():
        raise NotFound(f"replk.openvino: {package} has no headers; the op in Python needs none")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".openvino-") as directory:
            made = Path(directory) / path.name
            done = subprocess.run(_command(compiler, package, made), capture_output=True, text=True)
            if done.returncode:
                lines = done.stderr.splitlines() or ["no message"]
                first = next((line for line in lines if "error" in line), lines[0])
                raise NotFound(f"replk.openvino: the extension could not be compiled: {first}")
            os.replace(made, path)
    except OSError as error:
        raise NotFound(f"replk.openvino: {path} cannot be written: {error.strerror}") from error
    return path
