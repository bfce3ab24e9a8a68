"""Pictures of a report and their common style, for light and dark pages."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cpsc_train.errors import needs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from cpsc_train.reporting.report.source import Run

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#b8a800")
"""Palette of Okabe and Ito, safe for colour-blind readers; yellow is darkened and black replaced by grey."""
APART = 8
"""Most runs with individual pictures; the others appear only in the pictures that compare runs."""
LINES = ("-", "--", ":", "-.")
THEMES = {
    "light": {"ground": "#ffffff", "ink": "#1f2328", "grid": "#d8dee4"},
    "dark": {"ground": "#161b22", "ink": "#e6edf3", "grid": "#30363d"},
}


@dataclass(frozen=True)
class Panel:
    """One picture.

    Parameters
    ----------
    name
        Name of its file, without the suffix; signs that file names cannot have are replaced.
    title
        Title, and alternative text.
    draw
        Function that draws into axes.
    height
        Height in inches.
    size
        Font size in points; 8 are 9 pixels of the page.
    """

    name: str
    title: str
    draw: Callable[[Axes], None]
    height: float = 3.25
    size: float = 8

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
    """A title, column heads, and rows of as many cells."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A title, a caption, pictures, the reasons why others are absent, and tables."""

    title: str
    caption: str
    panels: list[Panel] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def colour(place: int) -> str:
    """Return the colour of the run, or class, at `place`."""
    return COLOURS[place % len(COLOURS)]


def _line(place: int) -> str:
    """Return the line style of the run at `place`; with the colour it distinguishes 32 runs."""
    return LINES[place // len(COLOURS) % len(LINES)]


def curve(axes: Axes, x: ArrayLike, y: ArrayLike, place: int, name: str, **style: Any) -> None:
    """Draw the line of the run at `place`."""
    axes.plot(x, y, **{"color": colour(place), "linestyle": _line(place), "label": name, **style})


def legend(axes: Axes, names: Sequence[str], *, place: Literal["best", "lower right"] = "best") -> None:
    """Add a legend for 2 to 12 runs."""
    if 1 < len(names) <= 12:
        axes.legend(fontsize=6, framealpha=0.8, edgecolor="none", loc=place)


def individual(runs: Sequence[Run]) -> tuple[Sequence[Run], list[str]]:
    """Return the runs with individual pictures, and a note on the others."""
    more = len(runs) - APART
    return runs[:APART], [f"the {more} runs after {runs[APART - 1].name}: report fewer at a time"] if more > 0 else []


def shortened(name: str) -> str:
    """Return a name, or the end of it if it is too long for an axis."""
    return name if len(name) <= 24 else f"…{name[-23:]}"


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
            legend(axes, [run.name for run in runs])

        return Panel(f"{name}-{head}", f"{title} {head}", draw)

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
