"""``cpsc data``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from cpsc_train.cli.hints import print_next, shared
from cpsc_train.cli.options import (
    Command,
    File,
    Folder,
    Name,
    Root,
    Settings,
    about,
    flag,
    option_table,
    progress,
    value,
)

if TYPE_CHECKING:
    from cpsc_train.data import DataConfig, SplitConfig
    from cpsc_train.data.preparation import Checked
    from cpsc_train.output import Output


@dataclass(frozen=True, kw_only=True)
class Data(Command):
    """List data sets; check, pack or divide one; extract features."""

    examples: ClassVar[str] = """\
  cpsc data list
  cpsc data corruptions                                       kinds of noise, with five levels each
  cpsc data corruptions handwritten                           those that apply to each modality
  cpsc data check crema-d --root DIR --skip-list bad.tsv      then: cpsc train … --set data.skip=bad.tsv
  cpsc data prepare crema-d --root DIR --extract OUT          audio and frames of the videos
  cpsc data prepare crema-d --root DIR --cache OUT            then: cpsc train … --set data.cache=OUT
  cpsc data prepare crema-d --root DIR --shards s3://B/OUT    then: cpsc train … --root s3://B/OUT
  cpsc data prepare crema-d --root DIR --splits FILE --by speaker
  cpsc data features --recipe mvsa-single-small --root DIR --out FILE --noise image:blur@1-5
"""

    action: Annotated[Literal["list", "show", "corruptions", "check", "prepare", "features"], tyro.conf.Positional] = (
        "list"
    )
    """Action; check exits with 2 if a file is faulty."""
    name: Name = None
    """Data set."""
    root: Root = None
    """Folder or address of the data set."""
    set: Settings = ()
    """Any option of data or splits, such as data.split=speaker."""
    workers: Annotated[int | None, value("N")] = None
    """Processes. Default: the number of cores."""
    skip_list: File = None
    """check: write the faulty samples to this file, for data.skip."""
    by_speaker: Annotated[bool, flag] = False
    """check: report a speaker in two parts as a fault."""
    extract: Folder = None
    """prepare: write audio and frames of videos to this folder."""
    cache: Folder = None
    """prepare: decode everything into memory-mapped files."""
    shards: Root = None
    """prepare: pack all files into tar files, at a path or an address."""
    splits: File = None
    """prepare: write the sample ids of each part, for splits.file."""
    by: Annotated[Literal["official", "speaker", "stratified"], value("RULE")] = "official"
    """prepare: division of --splits: official, speaker, stratified."""
    recipe: Annotated[str | None, value("NAME")] = None
    """features: recipe whose encoders are used, without training."""
    out: File = None
    """features: .npz file; missing arrays are added if it exists."""
    noise: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="SPEC")] = ()
    """features: also extract them under noise, such as image:blur@1-5."""
    parts: Annotated[str | None, value("A,B")] = None
    """features: official parts to extract under noise. Default: all."""
    depths: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="K|M:NAME,…")] = ()
    """features: K depths of each encoder, or named submodules of one."""

    def run(self) -> int:
        from rich.table import Table

        from cpsc_train.data import DataConfig
        from cpsc_train.output import Output

        console = Output()
        if self.action == "list":
            table = Table("data set", "modalities", "files", box=None)
            for name, member in DataConfig.installed().items():
                table.add_row(name, " + ".join(getattr(member, "modalities", ())) or "detected", about(member))
            console.print(table)
            return 0
        if self.action == "corruptions":
            return self._corruptions(console)
        if self.action == "features":
            return self._features(console)
        name = self.required(f"data {self.action}", self.name, DataConfig.members)
        if self.action == "show":
            member = DataConfig.named(name)
            console.print(f"{name}: {about(member, whole=True)}\n", soft_wrap=True)
            console.print(option_table("data", member, {}))
            return 0
        config, splits = self._configuration(name)
        if self.action == "check":
            return self._check(config, splits, console)
        return self._prepare(config, splits, console)

    def _corruptions(self, console: Output) -> int:
        from rich.table import Table

        from cpsc_train.data.noise import KINDS
        from cpsc_train.data.noise.levels import Source

        if self.name is None:
            table = Table("kind", "applies to", "effect", "severity", "levels 1 to 5", box=None)
            for kind in KINDS.values():
                table.add_row(
                    kind.name, kind.target, kind.summary, kind.severity, "\n".join(map(_severities, kind.tables))
                )
        else:
            table = Table("modality", "kind", "severity by level", box=None)
            config, _ = self._configuration(self.name)
            dataset = config.open()
            source = Source(dataset.modalities, dataset)
            for name in dataset.modalities:
                for one in source.kinds(name):
                    levels = (
                        f"{level}: {source.at(name, one, level).severity:g}" for level in source.levels(name, one)
                    )
                    table.add_row(name, one, ", ".join(levels))
        console.print(table)
        return 0

    def _configuration(self, name: str) -> tuple[DataConfig, SplitConfig]:
        from cpsc_train.config import apply_settings, override
        from cpsc_train.data import DataConfig, SplitConfig
        from cpsc_train.errors import UserError

        kind = make_dataclass("Configuration", [("data", DataConfig), ("splits", SplitConfig)], frozen=True)
        data: Any = DataConfig.named(name)
        config: Any = kind(data(), SplitConfig())
        if self.root is not None:
            config = override(config, {"data.root": self.root})
        config = apply_settings(config, self.set)
        if config.data.name != name:
            raise UserError(f"--set data.name: the data set is {name}")
        return config.data, config.splits

    def _features(self, console: Output) -> int:
        from cpsc_train.cli.options import RunOptions
        from cpsc_train.errors import UserError
        from cpsc_train.experiments.features import extract_features

        if self.recipe is None or self.out is None:
            raise UserError("cpsc data features needs --recipe and --out")
        if self.name is not None:
            raise UserError(f"cpsc data features takes no name, since --recipe names the data set; got {self.name}")
        config = RunOptions(recipe=self.recipe, root=self.root, set=self.set).configuration(
            **{"compute.workers": self.workers}
        )
        parts = () if self.parts is None else tuple(self.parts.split(","))
        with progress(console, "extracting features") as advance:
            extracted = extract_features(
                config, self.out, noise=self.noise, parts=parts, depths=self.depths, advance=advance
            )
        for title, names in (("written", extracted.written), ("already complete", extracted.complete)):
            if names:
                console.print(f"{title}: {', '.join(names)}", soft_wrap=True)
        console.print(
            f"{extracted.rows:,} samples are in {self.out}; to train on them: --data arrays --root {self.out}",
            soft_wrap=True,
        )
        return 0

    def _processes(self) -> int:
        from cpsc_train.data.processes import cores
        from cpsc_train.errors import UserError

        if self.workers is not None and self.workers < 0:
            raise UserError(f"--workers must be at least 0, got {self.workers}")
        return cores() if self.workers is None else self.workers

    def _check(self, config: DataConfig, splits: SplitConfig, console: Output) -> int:
        from cpsc_train.data.faults import write_skip_list
        from cpsc_train.data.preparation import check
        from cpsc_train.writing import check_writable

        if self.skip_list is not None:
            check_writable(self.skip_list)
        with progress(console, "reading samples") as advance:
            checked = check(config, splits, workers=self._processes(), by_group=self.by_speaker, advance=advance)
        _tell(checked, console)
        if self.skip_list is not None:
            listed = {place: error for place, error in checked.faults.items() if not place.startswith("(")}
            write_skip_list(self.skip_list, listed)
            console.print(
                f"{len(listed)} samples or lines are in {self.skip_list}; to leave them out: --set "
                f"data.skip={self.skip_list}",
                soft_wrap=True,
            )
        self.suggest(console, config.name, faulty=bool(checked.faults))
        return 2 if checked.faults else 0

    def suggest(self, console: Output, name: str, *, faulty: bool) -> None:
        """Print how to list the faults of a data set, or how to train on it if a recipe has its name."""
        from cpsc_train.recipes import RECIPES

        options = shared(self, ["modules", "root", "set"])
        if faulty and self.skip_list is None:
            print_next(console, ["cpsc", "data", "check", name, *options, "--skip-list", f"{name}-faults.tsv"])
        elif name in RECIPES:
            skip = ["--set", f"data.skip={self.skip_list}"] if faulty else []
            print_next(console, ["cpsc", "train", "--data", name, *options, *skip])

    def _prepare(self, config: DataConfig, splits: SplitConfig, console: Output) -> int:
        from cpsc_train.data import preparation
        from cpsc_train.errors import UserError

        if not any((self.extract, self.cache, self.shards, self.splits)):
            raise UserError("cpsc data prepare needs at least one of --extract, --cache, --shards, --splits")
        workers = self._processes()
        if self.splits is not None:
            sizes = preparation.write_splits(config, splits, self.splits, self.by).sizes
            listed = ", ".join(f"{part} {size:,}" for part, size in sizes.items())
            console.print(f"{self.splits}: {listed}; to train on it: --set splits.file={self.splits}", soft_wrap=True)
        if self.extract is not None:
            with progress(console, "extracting audio and frames") as advance:
                count = preparation.extract(config, self.extract, workers=workers, advance=advance)
            console.print(
                f"{count:,} recordings are in {self.extract}; to train on them: --root {self.extract}", soft_wrap=True
            )
        if self.cache is not None:
            with progress(console, "decoding") as advance:
                size = preparation.fill_cache(config, self.cache, workers=workers, advance=advance)
            console.print(
                f"{size / 1e6:,.1f} MB written; to train on them: --set data.cache={self.cache}", soft_wrap=True
            )
        if self.shards is not None:
            with progress(console, "packing") as advance:
                size = preparation.pack(config, self.shards, workers=workers, advance=advance)
            console.print(f"{size / 1e6:,.1f} MB written; to train on them: --root {self.shards}", soft_wrap=True)
        return 0


def _tell(checked: Checked, console: Output) -> None:
    from rich.table import Table

    from cpsc_train.data.preparation.check import balance, kinds

    counts = checked.counts()
    table = Table(title="Samples by class and part", title_justify="left")
    table.add_column("class")
    for part in counts:
        table.add_column(part, justify="right")
    for place, name in enumerate(checked.dataset.classes):
        table.add_row(name, *(f"{held[place]:,}" for held in counts.values()))
    figures = {part: balance(held) for part, held in counts.items()}
    table.add_section()
    table.add_row("all", *(f"{of['samples']:,}" for of in figures.values()))
    table.add_row("most frequent, %", *(_number(100 * of["majority"], 1) for of in figures.values()))
    table.add_row("most / least frequent", *(_number(of["imbalance"], 2) for of in figures.values()))
    console.print(table)
    for modality, held in checked.present().items():
        of = balance(held)
        always = f"; the most frequent class has {100 * of['majority']:.1f}% of them" if of["samples"] else ""
        summary = checked.dataset.modalities[modality].summary
        console.print(f"{modality}: {of['samples']:,} samples can be read{always}; {summary}", soft_wrap=True)
    for title, errors in (("Faults", list(checked.faults.values())), ("Notes", list(checked.notes))):
        if errors:
            table = Table("kind", "count", title=title, title_justify="left")
            table.add_column("first one", overflow="fold")  # a path is never cut
            for kind, count in kinds(errors).most_common():
                table.add_row(kind, f"{count:,}", str(next(error for error in errors if error.kind == kind)))
            console.print(table)
    if not checked.faults:
        console.print("no faults found")


def _severities(severities: Iterable[float]) -> str:
    return ", ".join(f"{severity:g}" for severity in severities)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"
