#!/usr/bin/env python3
"""`python3 -m replk.convert` out of the source tree, without the built library, which converting does not need.

    python3 python/convert.py IN OUT.safetensors [OPTION...]
"""
import pathlib
import sys
import types

# The package without its __init__, which loads the library, and by another name, so that both can be in one process.
package = types.ModuleType("replk_source")
package.__path__ = [str(pathlib.Path(__file__).resolve().parent / "replk")]
sys.modules["replk_source"] = package

from replk_source.convert import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
