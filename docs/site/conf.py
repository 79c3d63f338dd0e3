"""Sphinx's part of the site; ./run docs has the rest. The sources are the repository's own pages, with the pages of this folder
beside the README (build/docs-source, a copy)."""
import pathlib
import re
import sys

HOUSE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(HOUSE / "python"))

project = "libreplk_cpu"
author = "the libreplk_cpu authors"
copyright = f"2026, {author}"
version = release = re.search(r"project\(\S+ VERSION ([\d.]+)", (HOUSE / "CMakeLists.txt").read_text())[1]
extensions = ["myst_parser", "breathe", "sphinx.ext.autodoc"]
root_doc = "index"
include_patterns = ["*.md", "*.rst", "docs/*.md", "models/README.md", "examples/**.md"]

html_theme = "furo"
html_title = f"{project} {version}"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]

myst_heading_anchors = 4  # as GitHub names them

breathe_projects = {"replk": str(HOUSE / "build/doxygen/xml")}
breathe_default_project = "replk"
breathe_domain_by_extension = {"h": "c", "hpp": "cpp"}
breathe_show_include = False

autodoc_default_options = {"members": True, "special-members": "__call__"}
autodoc_member_order = "bysource"
# Neither the library nor a framework is needed to say what their callers see.
autodoc_mock_imports = ["numpy", "onnx", "openvino", "pyarrow", "replk._c", "replk.torch._op", "torch"]

nitpicky = True
nitpick_ignore_regex = [  # others' names
    ("c(pp)?:identifier", r"(u?int\d+|size)_t|std(::\w+)*"),
    ("py:.*", r"(ctypes|np|numpy|os|torch|nn|openvino|onnx)\..*|ArrayLike|Iterable|Sequence"),
]


def c_from_cpp(app, env, node, content):
    """Types of the C API in the C++ API's declarations."""
    if node.get("refdomain") == "cpp" and node["reftarget"].lower().startswith("replk_"):
        return env.get_domain("c").resolve_xref(
            env, node["refdoc"], app.builder, "identifier", node["reftarget"], node, content)
    return None


def readable(app, what, name, thing, options, lines):
    """Docstrings are written to be read as they stand. Parameters become a list of fields, indented blocks code."""
    given, field, code = list(lines), False, False
    lines.clear()
    for at, line in enumerate(given):
        if line == "Parameters" or set(line) == {"-"}:
            field = True
            continue
        if field and (named := re.match(r"([\w, ]+): ", line)):
            lines += [f":param {name}:" for name in named[1].split(", ")[:-1]]
            line = f":param {named[1].split(', ')[-1]}: {line[named.end():]}"
        elif field and line and not line.startswith(" "):
            field = False
        starts = line.startswith("    ") and not given[at - 1].strip() and not field
        if starts and not code:
            lines += [".. code-block:: text" if not re.search(r"import |=", line) else ".. code-block:: python", ""]
            code = True
        elif code and line.strip() and not line.startswith("    "):
            code = False
        lines.append(line)
    lines.append("")


def setup(app):
    app.connect("missing-reference", c_from_cpp)
    app.connect("autodoc-process-docstring", readable)
