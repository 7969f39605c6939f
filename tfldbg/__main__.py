"""``python -m tfldbg``."""

import os
import sys

# A numpy.py next to a downloaded model must not be run.
if sys.path[:1] == [os.getcwd()] and not getattr(sys.flags, "safe_path", False):  # noqa: PTH109
    del sys.path[0]

from tfldbg.cli.app import main

main()
