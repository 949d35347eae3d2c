"""``evalsuite`` and ``python -m evalsuite``."""

import sys

from evalsuite.exits import report_error, stop_while_loading
from evalsuite.streams import prepare_streams


def main() -> None:
    """Run the command line; whatever happens while it loads is one sentence too."""
    prepare_streams()
    stop_while_loading()
    try:
        from evalsuite.cli import main as run
    except Exception as error:  # A broken installation, or a package with suites that fails on import.
        sys.exit(report_error(error))
    run()


if __name__ == "__main__":
    main()
