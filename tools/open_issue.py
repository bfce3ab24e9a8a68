"""Open an issue about a workflow that failed, or comment on the open one. Usage: open_issue.py TITLE.

It needs `gh`, and the variables that GitHub sets in a workflow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable


def gh(*arguments: str) -> str:
    """Run a command of the GitHub command line, and return its output."""
    return subprocess.run(["gh", *arguments], capture_output=True, text=True, check=True).stdout  # noqa: S603, S607


def report(title: str, body: str, call: Callable[..., str] = gh) -> str:
    """Comment on the open issue with this title, or open one; return the output of the command."""
    issues = json.loads(call("issue", "list", "--state", "open", "--limit", "200", "--json", "number,title"))
    numbers = [issue["number"] for issue in issues if issue["title"] == title]
    if numbers:
        return call("issue", "comment", str(min(numbers)), "--body", body)
    return call("issue", "create", "--title", title, "--body", body)


if __name__ == "__main__":
    server, repository, run = (os.environ[f"GITHUB_{name}"] for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    print(report(sys.argv[1], f"{server}/{repository}/actions/runs/{run} names the jobs that failed."))  # noqa: T201
