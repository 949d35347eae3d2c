"""``evalsuite`` and ``python -m evalsuite``."""

from evalsuite.interrupt import stop_while_loading


def main() -> None:
    """Run the command line; an interrupt while it loads is one sentence too."""
    stop_while_loading()
    from evalsuite.cli import main as run

    run()


if __name__ == "__main__":
    main()
