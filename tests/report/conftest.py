"""Which tests of the report can run on this machine: those in a browser need one."""

from __future__ import annotations

import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM is None:
        for item in items:
            if item.get_closest_marker("requires_chromium"):
                item.add_marker(
                    pytest.mark.skip(reason="no Chromium on PATH: the report is not looked at in a browser")
                )


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program; for tests marked requires_chromium."""
    assert CHROMIUM is not None
    return CHROMIUM
