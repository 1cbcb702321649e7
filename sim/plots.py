"""Pictures of what was measured; needs matplotlib."""

from pathlib import Path

from intaglio.hw.config import Design
from intaglio.sim.bench import Point
from intaglio.sim.estimate import roof
from intaglio.sim.tools import ToolError
from intaglio.sim.trace import Slice, tracks

try:
    import matplotlib as mpl
    from matplotlib import pyplot as plt
    from matplotlib.patches import Rectangle
except ImportError:
    raise ToolError("matplotlib is missing, which draws: pip install -e '.[plots]'") from None

__all__ = ["plot_bench", "plot_timeline"]

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "intaglio"  # the same picture on every run

COLOURS = {
    "EMBED": "#9a9a9a", "QKV": "#4477aa", "ATTEND": "#228833", "O": "#66ccee",
    "GATE_UP": "#ee6677", "DOWN": "#ccbb44", "HEAD": "#aa3377",
}  # fmt: skip
"""Of an operation."""
WAITING = "#e6e6e6"
ELSE = "#bbbbbb"


def _save(figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(
        path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else {}
    )
    plt.close(figure)


def plot_timeline(path: Path, design: Design, shown: list[Slice]) -> None:
    """Every track over time; operations by colour."""
    names, zero = tracks(design), min(s.begin for s in shown)
    figure, axes = plt.subplots(figsize=(12, 0.45 * len(names) + 1))
    for n, track in enumerate(names):
        mine = [s for s in shown if s.track == track]
        bars = [(s.begin - zero, s.end - s.begin) for s in mine]
        colours = [
            WAITING if s.name.startswith("waiting") else COLOURS.get(s.name.split()[0], ELSE)
            for s in mine
        ]
        axes.broken_barh(bars, (n - 0.4, 0.8), facecolors=colours, linewidth=0)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("clock cycles")
    axes.margins(x=0)
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    axes.legend(
        handles, [name.lower().replace("_", " and ") for name in COLOURS], ncols=len(COLOURS),
        loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False,
    )  # fmt: skip
    _save(figure, path)


def plot_bench(folder: Path, design: Design, points: list[Point]) -> None:
    """Use against sequences, cycles per token against context, and the roofline."""
    decode = [p for p in points if p.kind == "decode"]
    contexts = sorted({p.context for p in decode})
    counts = sorted({p.sequences for p in decode})

    figure, axes = plt.subplots(figsize=(6, 4))
    for context in contexts:
        mine = [p for p in decode if p.context == context]
        for engine, style in (("array", "o-"), ("attention", "s--")):
            used = [100 * getattr(p.usage, engine).utilisation for p in mine]
            axes.plot(
                [p.sequences for p in mine], used, style, label=f"{engine}, {context} positions"
            )
    axes.set(xlabel="sequences", ylabel="multiplier slots used, %", ylim=(0, 100))
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.legend(fontsize="small")
    _save(figure, folder / "utilisation.svg")

    figure, axes = plt.subplots(figsize=(6, 4))
    for count in counts:
        mine = [p for p in decode if p.sequences == count]
        label = f"{count} sequence{'s' if count > 1 else ''}"
        axes.plot([p.context for p in mine], [p.cycles_per_token for p in mine], "o-", label=label)
    axes.set(xlabel="positions attended to", ylabel="cycles per token")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
    _save(figure, folder / "context.svg")

    figure, axes = plt.subplots(figsize=(6, 4))
    for context in contexts:
        mine = [p for p in decode if p.context == context]
        line = axes.plot(
            [p.sequences for p in mine], [1000 / p.cycles_per_token for p in mine], "o",
            label=f"measured, {context} positions",
        )[0]  # fmt: skip
        bound = [1000 / roof(design, n, context) for n in counts]
        axes.plot(counts, bound, "-", color=line.get_color(), linewidth=1)
    axes.set(xlabel="sequences", ylabel="tokens per 1,000 cycles")
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.set_title("lines: no engine can do more", fontsize="medium")
    axes.legend(fontsize="small")
    _save(figure, folder / "roofline.svg")
