"""``python -m tfldbg``."""

from tfldbg.cli.app import main

main()
