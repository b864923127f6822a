"""``python -m xaicmp``."""

from xaicmp.cli import main

main()
