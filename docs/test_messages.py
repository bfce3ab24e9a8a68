"""Every message that the troubleshooting page explains is one that the packages say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
TERMS = re.findall(r"^(`.+)\n: ", PAGE, flags=re.MULTILINE)
MESSAGES = [message for term in TERMS for message in re.findall(r"`([^`]+)`", term)]
SOURCES = [path.read_text("utf-8") for path in ROOT.glob("packages/*/src/**/*.py")]


@pytest.mark.parametrize("message", MESSAGES)
def test_it_is_said(message):
    assert any(message in re.sub(r'"\s*\n\s*f?"', "", source) for source in SOURCES)


def test_the_page_has_messages_of_all_packages():
    assert len(MESSAGES) > 15
