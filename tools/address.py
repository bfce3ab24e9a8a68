"""Write the address of the repository into the metadata of all packages and CITATION.cff. Usage: address.py ADDRESS.

The address is that of a repository on GitHub, such as https://github.com/OWNER/NAME. A release needs it, because
package indexes show it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ADDRESS = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git|/)?")
LABELS = ("Source", "Documentation", "Changelog", "Issues")


def main(address: str, root: Path = ROOT) -> int:
    """Change the files; return the exit code."""
    match = ADDRESS.fullmatch(address)
    if match is None:
        print(f"address: error: must be https://github.com/OWNER/NAME, got {address}", file=sys.stderr)  # noqa: T201
        return 2
    owner, name = match.groups()
    repository = f"https://github.com/{owner}/{name}"
    for project in sorted(root.glob("packages/*/pyproject.toml")):
        urls = {
            "Source": repository,
            "Documentation": f"https://{owner.lower()}.github.io/{name}/",
            "Changelog": f"{repository}/blob/main/packages/{project.parent.name}/CHANGELOG.md",
            "Issues": f"{repository}/issues",
        }
        lines = "".join(f'{label} = "{urls[label]}"\n' for label in LABELS)
        kept = re.sub(rf'^(?:{"|".join(LABELS)}) = ".*"\n', "", project.read_text(encoding="utf-8"), flags=re.MULTILINE)
        project.write_text(kept.replace("[project.urls]\n", f"[project.urls]\n{lines}"), encoding="utf-8")
    citation = root / "CITATION.cff"
    kept = re.sub(r"^repository-code: .*\n", "", citation.read_text(encoding="utf-8"), flags=re.MULTILINE)
    line = f'repository-code: "{repository}"\n'
    citation.write_text(kept.replace("license: ", f"{line}license: ", 1), encoding="utf-8")
    print(f"written into the metadata of all packages and CITATION.cff: {repository}")  # noqa: T201
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: address.py https://github.com/OWNER/NAME")
    sys.exit(main(sys.argv[1]))
