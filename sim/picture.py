"""Pictures of a chip's area, with matplotlib: a map of its units, and the curve of their share."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from intaglio.hw.formats import ConfigError
from intaglio.sim.area import H100, MULTIPLIERS, Area
from intaglio.sim.tools import ToolError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_curve", "draw_map", "require"]

MULTIPLYING, OTHER = "#c1272d", "#cfd4da"
SHOWN = 0.012
"""Least share of a unit that has room for its name."""

Box = tuple[float, float, float, float]
"""Left, bottom, width, height."""


def require(path: Path) -> None:
    """Raise an error if no picture can be drawn into `path`: before the long work."""
    if path.suffix not in (".svg", ".png"):
        raise ConfigError(f"A picture's name must end in .svg or .png, not {path.name}")
    if not path.parent.is_dir():
        raise ConfigError(f"There is no folder {path.parent} for the picture {path.name}")
    try:
        import matplotlib  # noqa: F401 (whether it is there)
    except ImportError as error:
        raise ToolError("matplotlib is missing: pip install -e '.[plots]'") from error


def _figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches; its text stays text in SVG, and the same each time."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "intaglio"})
    return Figure(figsize=(width, height), layout="tight")


def _save(figure: "Figure", path: Path) -> None:
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def boxes(weights: list[float], box: Box) -> Iterator[Box]:
    """Cut `box` into areas like `weights`, which fall: in halves, across its longer side."""
    if len(weights) == 1:
        yield box
        return
    total, cut = sum(weights), 1
    while cut < len(weights) - 1 and sum(weights[: cut + 1]) <= total / 2:
        cut += 1
    left, bottom, width, height = box
    part = sum(weights[:cut]) / total
    if width >= height:
        first = left, bottom, width * part, height
        second = left + width * part, bottom, width * (1 - part), height
    else:
        first = left, bottom + height * (1 - part), width, height * part
        second = left, bottom, width, height * (1 - part)
    yield from boxes(weights[:cut], first)
    yield from boxes(weights[cut:], second)


def draw_map(title: str, area: Area, path: Path) -> None:
    """Draw every unit as large as its share; what multiplies and accumulates is red."""
    figure = _figure(9, 5.5)
    axes = figure.subplots()
    axes.set(xlim=(0, 9), ylim=(0, 5), title=title)
    axes.axis("off")
    units = sorted((u for u in area.units if u.share), key=lambda unit: -unit.share)
    from matplotlib.patches import Rectangle

    places = boxes([unit.share for unit in units], (0.0, 0.0, 9.0, 5.0))
    for unit, (left, bottom, width, height) in zip(units, places, strict=True):
        red = unit.name in MULTIPLIERS
        color = MULTIPLYING if red else OTHER
        axes.add_patch(Rectangle((left, bottom), width, height, fc=color, ec="white", lw=1.5))
        if unit.share > SHOWN:
            label = unit.name.replace(": ", ":\n")
            axes.text(
                left + width / 2, bottom + height / 2,
                f"{label}\n{unit.share:.1%}",
                ha="center", va="center", color="white" if red else "black", clip_on=True,
                rotation=0 if width >= height / 2 else 90, fontsize=6 + 6 * min(unit.share * 5, 1),
            )  # fmt: skip
    _save(figure, path)


def draw_curve(title: str, points: list[tuple[int, Area]], path: Path) -> None:
    """Draw the share that multiplies and accumulates against the multipliers of the array."""
    figure = _figure(7, 4.5)
    axes = figure.subplots()
    multipliers = [count for count, _ in points]
    for label, shares in (
        ("array, block accumulate, attention's products", [a.multiplying for _, a in points]),
        ("the same, memories counted among all transistors", [a.with_memories for _, a in points]),
        ("array alone", [a.share("matmul array") for _, a in points]),
    ):
        axes.plot(multipliers, [100 * share for share in shares], marker="o", label=label)
    axes.axhline(100 * H100, color="gray", linestyle=":", label="H100, by Etched's count")
    axes.set_xscale("log", base=2)
    axes.set_xticks(multipliers, map(str, multipliers))
    axes.set(
        title=title, ylim=(0, 100), xlabel="multipliers of the array", ylabel="transistors (%)"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)
