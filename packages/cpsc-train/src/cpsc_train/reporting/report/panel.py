"""Pictures and tables of a report and their common style, for light and dark pages."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cpsc_train.errors import needs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from cpsc_train.reporting.report.source import Run

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#b8a800")
"""Palette of Okabe and Ito, safe for colour-blind readers; yellow is darkened and black replaced by grey."""
APART = 8
"""Most runs with individual pictures and tables; the others appear only in those that compare runs."""
LINES = ("-", "--", ":", "-.")
NAMED = 12
"""Most entries of a legend; the table of results shows the colours of all runs."""
SIZE = 11
"""Font size in points: at least 12 pixels of the page, on which a picture of 720 pixels is at least 352 wide."""
LEGEND = 0.215
"""Height in inches of a line of a legend."""
ROW = 0.25
"""Height in inches of a line of text on an axis."""
THEMES = {
    "light": {"ground": "#ffffff", "ink": "#1f2328", "grid": "#d8dee4"},
    "dark": {"ground": "#161b22", "ink": "#e6edf3", "grid": "#30363d"},
}


@dataclass(frozen=True)
class Panel:
    """One picture."""

    name: str
    """Name of its file, without the suffix; signs that file names cannot have are replaced."""
    title: str
    """Title."""
    draw: Callable[[Axes], None]
    """Function that draws into axes."""
    alt: str = ""
    """Alternative text after the title: what is drawn, and where its values are."""
    height: float = 3.25
    """Height in inches."""
    size: float = SIZE
    """Font size in points."""

    def render(self, theme: str) -> bytes:
        """Return a PNG of 720 pixels width, and 520 height by default."""

        def draw(figure: Figure) -> None:
            axes = figure.add_subplot()
            axes.set_title(self.title, loc="left")
            self.draw(axes)

        return render(draw, theme, height=self.height, size=self.size)


def render(draw: Callable[[Figure], None], theme: str, *, height: float, size: float = 8) -> bytes:
    """Return a PNG of 720 pixels width of a figure that `draw` fills.

    The `height` is in inches of 160 pixels, the font size in points.
    """
    from matplotlib import rc_context  # noqa: PLC0415  # an extra, and slow to import
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with rc_context(_settings(**THEMES[theme], size=size)):
        figure = Figure(figsize=(4.5, height), dpi=160)
        FigureCanvasAgg(figure)
        draw(figure)
        figure.tight_layout(pad=0.6)  # a layout engine would compute it several times
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
    return stream.getvalue()


@dataclass(frozen=True)
class Table:
    """A title, column heads, and rows of as many cells.

    `shades` holds a number in [0, 1] for each cell after the first of its row, which colours the cell; empty for none.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    shades: Sequence[Sequence[float]] = ()


@dataclass(frozen=True)
class Section:
    """A title, a caption, pictures and tables; without both, it does not appear."""

    title: str
    caption: str
    panels: Sequence[Panel] = field(default_factory=list)
    tables: Sequence[Table] = field(default_factory=list)


def colour(place: int) -> str:
    """Return the colour of the run at `place`."""
    return COLOURS[place % len(COLOURS)]


def line(place: int) -> str:
    """Return the line style of the run at `place`; with the colour it distinguishes 32 runs."""
    return LINES[place // len(COLOURS) % len(LINES)]


def curve(axes: Axes, x: ArrayLike, y: ArrayLike, place: int, name: str, **style: Any) -> None:
    """Draw the line of the run at `place`, if it has any point."""
    if np.size(x):
        axes.plot(x, y, **{"color": colour(place), "linestyle": line(place), "label": name, **style})


def legend(axes: Axes) -> None:
    """Put a legend of 2 to 12 entries between the title and the plot, and make the picture higher by its lines."""
    from matplotlib.transforms import blended_transform_factory  # noqa: PLC0415  # an extra, and slow to import

    handles, names = axes.get_legend_handles_labels()
    figure: Any = axes.figure
    if not 1 < len(names) <= NAMED:
        return
    columns = 3 if max(map(len, names)) <= 10 else 2
    lines = -(-len(names) // columns)
    figure.set_figheight(figure.get_figheight() + LEGEND * lines)
    axes.set_title(axes.get_title(loc="left"), loc="left", pad=9 + 72 * LEGEND * lines)
    box = axes.legend(
        handles,
        [shortened(name, 20) for name in names],
        ncols=columns,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        bbox_transform=blended_transform_factory(figure.transFigure, axes.transAxes),
        borderaxespad=0.3,
        frameon=False,
        handlelength=1.8,
        columnspacing=1,
        labelspacing=0.2,
    )
    box.set_in_layout(False)  # its place does not depend on that of the axes


def individual(runs: Sequence[Run]) -> Sequence[Run]:
    """Return the runs with individual pictures and tables."""
    return runs[:APART]


def of(run: Run, runs: Sequence[Run]) -> str:
    """Return the end of a title that names one of several runs; empty for a single run."""
    return f", {shortened(run.name)}" if len(runs) > 1 else ""


def shortened(name: str, length: int = 24) -> str:
    """Return a name, or the end of it if it is too long for an axis."""
    return name if len(name) <= length else f"…{name[1 - length :]}"


def require_matplotlib() -> None:
    """Raise a UserError if matplotlib is not installed."""
    with needs("matplotlib", extra="report"):
        import matplotlib  # noqa: F401, ICN001, PLC0415  # an extra


def by_head(
    runs: Sequence[Run],
    name: str,
    title: str,
    lines: Callable[[Axes, str, int, Run], None],
    *,
    y: str,
    x: str = "epoch",
) -> list[Panel]:
    """Return a panel for each head, in which `lines` draws one run after the other."""

    def panel(head: str) -> Panel:
        def draw(axes: Axes) -> None:
            with sides(axes, x=x, y=y):
                for place, run in enumerate(runs):
                    lines(axes, head, place, run)
            legend(axes)

        return Panel(f"{name}-{head}", f"{title} {head}", draw, f"{y} by {x}, a line for each run")

    return [panel(head) for head in dict.fromkeys(head for run in runs for head in run.heads)]


@contextmanager
def sides(axes: Axes, *, x: str, y: str) -> Iterator[None]:
    """Label the axes of the plot inside, and remove the frame."""
    yield
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _settings(ground: str, ink: str, grid: str, size: float) -> Any:
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor")
    return {
        **dict.fromkeys(inked, ink),
        "figure.facecolor": ground,
        "axes.facecolor": ground,
        "grid.color": grid,
        "font.size": size,
        "axes.titlesize": size + 1,
        "lines.linewidth": 1.3,
        "text.parse_math": False,  # names may contain $
    }
