"""The order of the tests, and what several tests of the command line share."""

import sys

import pytest

from intaglio.sim import cli

LONGEST = (
    "test_netlist",
    "test_stories",
    "test_shared_part",
    "test_story_model",
    "test_prediction",
    "ulx3s-85f",
    "icebreaker",
    "test_rows_and_groups",
    "test_expected_cycles",
    "test_small_chip",
    "test_chip_on_a_uart",
    "test_attend",
    "test_attention",
)
"""Parts of the names of tests that take long from nothing, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first, so that no worker is alone with one at the end."""

    def rank(item: pytest.Item) -> int:
        return next((n for n, part in enumerate(LONGEST) if part in item.nodeid), len(LONGEST))

    items.sort(key=rank)


@pytest.fixture
def intaglio(monkeypatch, capsys):
    """Run a command line: its exit code, stdout and stderr."""

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["intaglio", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        code = exited.value.code
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    return run
