"""Check that every message on the troubleshooting page occurs in the packages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
TERMS = re.findall(r"^(`.+)\n: ", PAGE, flags=re.MULTILINE)
MESSAGES = [message for term in TERMS for message in re.findall(r"`([^`]+)`", term)]
SOURCES = [path.read_text("utf-8") for path in ROOT.glob("packages/*/src/**/*.py")]


@pytest.mark.parametrize("message", MESSAGES)
def test_message_exists(message):
    assert any(message in re.sub(r'"\s*\n\s*f?"', "", source) for source in SOURCES)


def test_page_has_enough_messages():
    assert len(MESSAGES) > 15
