"""Fixtures that every test may use, and the rule that CI skips nothing."""

import os

import pytest

LONG = {
    "test_matrix.py",
    "test_schemathesis.py",
    "test_thousand.py",
    "test_chaos.py",
    "test_docs_providers.py",
    "test_docs_more.py",
    "test_crashes.py",
    "test_restore.py",
    "test_large.py",
    "test_crashes_deliveries.py",
}
"""Files with tests of ten seconds and more."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones go first, so that at the end no process works alone."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With NO_SKIPS set, a skipped test fails the run: there everything is installed that tests may need."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("NO_SKIPS") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = 1
        reporter.write_line("NO_SKIPS is set and tests were skipped", red=True)
