"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from cpsc_train.launch import require_one_process

if TYPE_CHECKING:
    from rich.table import Table

    from cpsc_train.output import Output
    from cpsc_train.training import RunConfig


def value(metavar: str) -> Any:
    """Return how the value of an option is shown; a default of None is not."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=_hint)


def _hint(default: str) -> str:
    return "" if default in {"", "None"} else f"(default: {default})"


flag = tyro.conf.arg(help_behavior_hint="")
Mode = Annotated[Literal["ours", "paper", "released"], value("MODE")]
Inferences = Annotated[str | None, value("A,B")]
File = Annotated[Path | None, value("FILE")]
Folder = Annotated[Path | None, value("DIR")]
Root = Annotated[str | None, value("DIR")]
Settings = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")]
Augment = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NOISE")]
Missing = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="A=.3")]
Modules = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="import", metavar="FILE")]
Name = Annotated[str | None, tyro.conf.Positional, value("[NAME]")]
Variants = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME:KEY=VALUE")]
Quiet = Annotated[bool, tyro.conf.arg(aliases=["-q"], help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command and its options. The docstring of a subclass is its line in ``cpsc --help``."""

    examples: ClassVar[str] = ""
    """What ``--help`` shows below that line."""
    distributed: ClassVar[bool] = False
    """Whether several processes can share the work."""

    modules: Modules = ()
    """Python file, or module, to import first."""

    def execute(self) -> int:
        """Import the modules that the command names, run it, and return the exit code.

        Raises UserError, among others, in a job of several processes if the command does not support it.
        """
        from cpsc_train.config import import_modules

        if not self.distributed:
            require_one_process(f"cpsc {type(self).__name__.lower()}")
        import_modules(self.modules)
        return self.run()

    def run(self) -> int:
        """Run the command and return the exit code."""
        raise NotImplementedError

    def required(self, command: str, name: str | None, known: Iterable[str]) -> str:
        """Return the name that an action needs; raise UserError, which lists the known ones, if it is absent."""
        from cpsc_train.errors import UserError

        if name is None:
            raise UserError(f"cpsc {command} needs a name, one of {', '.join(sorted(known))}")
        return name


@dataclass(frozen=True, kw_only=True)
class RunOptions(Command):
    """Options of the commands that configure runs."""

    recipe: Annotated[str, value("R"), tyro.conf.arg(aliases=["--data"])] = "handwritten"
    """Recipe to start from; see `cpsc recipes list`."""
    config: File = None
    """TOML file to start from, such as the config.toml of a run."""
    mode: Mode = "ours"
    """Variant of CPSC: ours, paper (literal) or released."""
    root: Root = None
    """Folder or address of the data set."""
    modalities: Annotated[str | None, value("A,B")] = None
    """Modalities to use, in order. Default: those of the recipe."""
    augment: Augment = ()
    """Noise on 30% of the training rows, anew in each epoch."""
    missing: Missing = ()
    """Fraction of rows without a modality: image=.3,text=.2."""
    set: Settings = ()
    """Any value of the configuration, such as conformal.alpha=0.05."""

    def configuration(self, **changes: Any) -> RunConfig:
        """Return the configuration that the options describe.

        `changes` are values to replace by dotted key; None leaves a value as it is. Another method than that of the
        recipe starts with its defaults for the epochs of the run. Raises UserError if a name is unknown, or a value
        does not fit.
        """
        from cpsc_train.config import located
        from cpsc_train.data.corruption import augmentation
        from cpsc_train.data.missing import parse_missing
        from cpsc_train.training import reconfigured
        from cpsc_train.training.config import with_root
        from cpsc_train.training.settled import settled

        base = self._base()
        if self.augment:
            base = replace(base, augment=tuple(noise for text in self.augment for noise in augmentation(text)))
        if self.missing:
            base = replace(base, missing=replace(base.missing, share=parse_missing(self.missing)))
        if self.root is not None:
            base = with_root(base, self.root)
        if self.modules:
            base = replace(base, imports=located([*base.imports, *self.modules]))
        values = {key: item for key, item in changes.items() if item is not None}
        return settled(reconfigured(base, self.set, values))

    def _base(self) -> RunConfig:
        from cpsc_train.config import read_toml
        from cpsc_train.errors import UserError
        from cpsc_train.recipes import recipe
        from cpsc_train.training import RunConfig

        if self.config is None:
            modalities = None if self.modalities is None else tuple(self.modalities.split(","))
            return recipe(self.recipe, mode=self.mode, modalities=modalities)
        for name in ("recipe", "mode", "modalities"):
            if getattr(self, name) != getattr(RunOptions, name):
                raise UserError(
                    f"--{name} belongs to a recipe, not to --config: set data.modalities, encoders or method there"
                )
        return RunConfig.from_plain(read_toml(self.config))


CONFIGURING = tuple(option.name for option in fields(RunOptions))
"""Names of the options that configure runs."""


@contextmanager
def progress(console: Output, what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar on a terminal; yields the function that receives what is done, of how much."""
    from rich.progress import Progress

    with Progress(console=console, disable=not console.is_terminal, transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, of: shown.update(task, completed=done, total=of)


def about(kind: type, *, whole: bool = False) -> str:
    """Return the docstring of a class in one line, or its first paragraph."""
    text = (kind.__doc__ or "").replace("``", "")
    if text.startswith(f"{kind.__name__}("):  # made by dataclass, not written
        return ""
    return " ".join((text if whole else text.split("\n\n")[0]).split())


def option_table(prefix: str, kind: type[Any], columns: Mapping[str, Mapping[str, str]]) -> Table:
    """Return a table of the options of a class with their defaults, further columns by option, and descriptions."""
    from docstring_parser import parse_from_object
    from rich.table import Table

    described = {
        p.arg_name: p.description for base in reversed(kind.__mro__[:-1]) for p in parse_from_object(base).params
    }
    table = Table("option", "default", *columns, "", box=None)
    for field in fields(kind):
        cells = (column.get(field.name, "") for column in columns.values())
        text = " ".join((described.get(field.name) or "").replace("``", "").split())
        table.add_row(f"{prefix}.{field.name}", str(field.default), *cells, text)
    return table


def variants(text: str | None) -> list[str] | None:
    """Return the inference variants named by an option; None if it is not given. Commas in a value are part of it.

    Examples
    --------
    >>> variants("trust,read:steps=2"), variants("none"), variants(None)
    (['trust', 'read:steps=2'], [], None)
    >>> variants('trust:corruptions=["image:blur@1,3"],dasp')
    ['trust:corruptions=["image:blur@1,3"]', 'dasp']
    """
    if text is None:
        return None
    return [] if text == "none" else re.split(r",(?=[a-z][\w-]*(?:[:,]|$))", text)
