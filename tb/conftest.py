"""What several tests of the command line share."""

import sys

import pytest

from intaglio.sim import cli


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
