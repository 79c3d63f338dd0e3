#!/usr/bin/env python3
"""`python3 -m replk.convert` out of the source tree, without the built library, which converting does not need.

    python3 python/convert.py IN OUT.safetensors [OPTION...]
"""
import pathlib
import sys
import types

# The package without its __init__, which loads the library.
package = types.ModuleType("replk")
package.__path__ = [str(pathlib.Path(__file__).resolve().parent / "replk")]
sys.modules.setdefault("replk", package)

from replk.convert import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
