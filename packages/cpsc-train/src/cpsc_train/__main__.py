"""The ``cpsc`` command as a process; ``python -m cpsc_train`` is the same."""

import sys
import warnings

from cpsc_train import interrupts


def main() -> None:
    """Run the command line and end with its exit code."""
    interrupts.listen()
    code = 130
    try:
        from cpsc_train.cli import main as run  # noqa: PLC0415  # a signal may come while it is imported
        from cpsc_train.output import show_warning  # noqa: PLC0415

        warnings.showwarning = show_warning
        code = run()
    except KeyboardInterrupt as stop:
        code = interrupts.exit_code(stop)
    finally:
        interrupts.close_ears()
    sys.exit(code)


if __name__ == "__main__":
    main()
