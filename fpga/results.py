"""Build every board, and write what came of it: ``python -m intaglio.fpga.results [BOARD ...]``.

Writes ``fpga/results.json``, and the table between the two markers in the README. Boards that are
not named keep the results that they had.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from intaglio.fpga.boards import BOARDS, Board, board, model_of
from intaglio.fpga.build import build
from intaglio.fpga.place import reading
from intaglio.golden.checkpoint import CheckpointError
from intaglio.golden.etch import etch
from intaglio.golden.load import load
from intaglio.hw.config import Design
from intaglio.hw.formats import ConfigError
from intaglio.sim.options import console, one_sentence
from intaglio.sim.tools import ToolError

__all__ = ["main", "table", "with_table"]

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "fpga" / "results.json"
BEGIN, END = "<!-- boards -->", "<!-- end of boards -->"


def _result(board: Board) -> dict[str, Any]:
    """The report of a board's build, or why there is none."""
    try:
        checkpoint = load(model_of(board))
        etched = etch(checkpoint, Design(checkpoint.config, board.chip))
        report = build(board, etched, ROOT / "build" / "boards" / board.name, console.print)
    except (CheckpointError, ConfigError, ToolError) as error:
        console.print(f"{board.name}: {error}", style="red", markup=False)
        return {"board": board.name, "failed": str(error).replace(f"{ROOT}/", "")}
    return asdict(report)


def _row(result: dict[str, Any]) -> list[str]:
    chip, used, expected = result["chip"], result["used"], result["expected"]
    array = f"{chip['rows']} x {chip['outputs']} x {chip['depth']}"
    if chip["outputs"] == 1:
        array = f"none, {chip['depth']} multipliers"
    formats = f"{chip['weights']}, {chip['activations']}, {chip['kv']}, {chip['small_float']}"
    return [
        BOARDS[result["board"]].title,
        result["model"],
        f"{array}; {formats}",
        *(
            f"{used[name]:,} ({100 * used[name] / result['available'][name]:.0f} %)"
            for name in ("lut", "ff", "dsp", "block_ram")
        ),
        f"{result['fmax_mhz']:.1f} of {result['clock_mhz']:g}",
        f"{expected['one']:,.0f}; {expected['all']:,.0f} ({expected['slots']})",
        f"{expected['tokens_per_second_one']:,}; {expected['tokens_per_second_all']:,}",
    ]


HEAD = (
    "board", "model", "array (rows x N x D); formats", "LUT", "FF", "DSP", "block RAM",
    "MHz reached of wanted", "cycles per token: alone; all (slots)",
    "expected tokens/s: alone; all",
)  # fmt: skip


def table(results: list[dict[str, Any]]) -> str:
    """The README's table, and the tools that it comes from."""
    built = [result for result in results if "failed" not in result]
    lines = [" | ".join(HEAD), " | ".join("---" for _ in HEAD), *map(" | ".join, map(_row, built))]
    text = "".join(f"| {line} |\n" for line in lines)
    for result in results:
        if "failed" in result:
            text += f"\n{result['board']}: not built. {result['failed']}\n"
    for date, tools in sorted({(r["date"], tuple(r["tools"].values())) for r in built}):
        text += f"\nBuilt on {date} with {', '.join(tools)}.\n"
    return text


def with_table(readme: str, text: str) -> str:
    """The README with `text` between its markers; raises :exc:`ConfigError` without them."""
    if BEGIN not in readme or END not in readme:
        raise ConfigError(f"The README has no place for the boards: {BEGIN} and {END}")
    before, rest = readme.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{text}{END}{rest.split(END, 1)[1]}"


def main(names: list[str]) -> None:
    """Build the boards of these names, or all; ends with 2 if one could not be built."""
    targets = [board(name) for name in names] or list(BOARDS.values())
    readme = ROOT / "README.md"
    with_table(readme.read_text(), "")  # raises before anything is built
    with reading(RESULTS):
        results = {result["board"]: result for result in json.loads(RESULTS.read_text())}
    for target in targets:
        results[target.name] = _result(target)
        in_order = [results[name] for name in BOARDS if name in results]
        RESULTS.write_text(json.dumps(in_order, indent=2) + "\n")
        readme.write_text(with_table(readme.read_text(), table(in_order)))
    if any("failed" in results[target.name] for target in targets):
        sys.exit(2)


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
