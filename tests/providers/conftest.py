"""A running mock, and the one client by which everything here reaches it."""

import httpx
import pytest

pytest.register_assert_rewrite("tests.providers.contract")

from providers.mock.serve import MockServer  # noqa: E402
from providers.mock.server import create_mock  # noqa: E402
from tests.providers.contract import SPEED  # noqa: E402


@pytest.fixture
async def client():
    async with httpx.AsyncClient(timeout=5) as client:
        yield client


@pytest.fixture
async def server(client):
    async with MockServer(create_mock(speed=SPEED, client=client)) as server:
        yield server
