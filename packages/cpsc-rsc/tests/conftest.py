"""Settings every test of this package shares."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("rsc", max_examples=50, deadline=None, derandomize=True)
settings.load_profile("rsc")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
