"""Refuse phrases that are never right in documentation, docstrings, comments and messages.

Usage: `python tools/check_language.py`.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
INSTEAD = {
    "odder": "less conforming, larger",
    "oddness": "nonconformity",
    "turned down": "down-weighted",
    "turns down": "down-weights",
    "nought": "zero",
    "for ever": "indefinitely",
    "for nothing": "for free",
    "mended": "fixed",
    "kept epoch": "best epoch",
    "our fault": "internal error",
}
"""Replacement of each phrase."""
PHRASES = re.compile(rf"\b({'|'.join(INSTEAD)})\b", re.IGNORECASE)


def findings(name: str, text: str) -> list[str]:
    r"""Return a line for each phrase: file, line number, phrase, what to write.

    Examples
    --------
    >>> findings("a.md", "This is\nfixed for ever.")
    ["a.md:2: 'for ever': write indefinitely"]
    """
    return [
        f"{name}:{number}: {phrase!r}: write {INSTEAD[phrase.lower()]}"
        for number, line in enumerate(text.splitlines(), 1)
        for phrase in PHRASES.findall(line)
    ]


def main() -> int:
    """Check every Markdown and Python file of the repository, except this folder, which quotes the phrases."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md", "*.py"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()  # noqa: S603
    files = [name for name in names if not name.startswith("tools/") and (ROOT / name).is_file()]
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in files}
    lines = [line for name, text in texts.items() for line in findings(name, text)]
    print("\n".join(lines) or f"{len(texts)} files: no phrase to avoid")  # noqa: T201
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
