"""Refuse source files of packages with more than 350 lines: `python tools/check_size.py`."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST = 350


def findings(root: Path) -> list[str]:
    """Return a line for each file that is too long."""
    lengths = {
        path.relative_to(root).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted(root.glob("packages/*/src/**/*.py"))
    }
    return [f"{name}: must have at most {MOST} lines, got {lines}" for name, lines in lengths.items() if lines > MOST]


def main() -> int:
    """Print what is too long; return the exit code."""
    found = findings(ROOT)
    print("\n".join(found) or f"no source file has more than {MOST} lines")  # noqa: T201
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
