"""Entry point of the ``cpsc`` command and of ``python -m cpsc_train``."""

import sys
import warnings

from cpsc_train import interrupts


def main() -> None:
    """Run the command line and exit with its code."""
    interrupts.install_handlers()
    code = 130
    try:
        from cpsc_train.cli import main as run  # noqa: PLC0415  # after the handlers: it is slow to import
        from cpsc_train.output import show_warning  # noqa: PLC0415

        warnings.showwarning = show_warning
        code = run()
    except KeyboardInterrupt as stop:
        code = interrupts.exit_code(stop)
    finally:
        interrupts.ignore_signals()
    sys.exit(code)


if __name__ == "__main__":
    main()
