"""``python -m xaicmp``, and the console script: Ctrl-C counts from the first import on."""

import os
import sys


def main() -> None:
    """Run the command line."""
    try:
        from xaicmp.cli import main as command

        command()
    except KeyboardInterrupt:
        sys.stderr.write("xaicmp: interrupted\n")
        sys.stderr.flush()
        os._exit(130)


if __name__ == "__main__":
    main()
