"""Cost of a run of any size on many GPUs: by arithmetic, simulated, and checked by small real runs.

    python benchmarks/scale/run.py            8, 64 and 512 GPUs; five minutes of CPU time
    python benchmarks/scale/run.py --simulate without the real runs
    python benchmarks/scale/run.py --quick    a small model, 8 GPUs, and jobs of two processes

Ends with 1 if a simulated or measured figure contradicts the arithmetic beyond its tolerance.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import arithmetic
import real
from arithmetic import Machine
from fits import Compared, Growth
from simulation import Simulated, simulate
from traffic import ring
from workload import FULL, SMALL, Sharding, Workload

NAMES: dict[Sharding, str] = {"off": "DDP", "encoders": "FSDP2"}
STATES = ("parameters", "gradients", "optimizer (Adam)", "copy for evaluation")
PADDING = 0.15
"""FSDP2 splits the first dimension of each parameter, and pads it to a multiple of the processes."""


@dataclass(frozen=True)
class Case:
    """A number of processes, and how the model is distributed, with the counts of its simulation."""

    world: int
    sharding: Sharding
    simulated: Simulated
    workload: Workload
    """What was simulated."""

    @property
    def name(self) -> str:
        return f"{NAMES[self.sharding]}, W = {self.world}"


def simulated(workload: Workload, worlds: Sequence[int]) -> list[Case]:
    """Simulate all cases, two at a time; a refresh is cut to two batches a process, since all are as large."""
    jobs = [(world, sharding) for world in worlds for sharding in NAMES]
    cut = {
        world: replace(workload, calibration=min(workload.calibration, 8 * workload.batch * world)) for world in worlds
    }
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(simulate, cut[world], world, sharding) for world, sharding in jobs]
        return [Case(*job, future.result(), cut[job[0]]) for job, future in zip(jobs, futures, strict=True)]


def comparisons(workload: Workload, case: Case) -> Iterator[Compared]:
    """Compare what was simulated with the arithmetic."""
    memory = arithmetic.memory(workload, case.world, case.sharding)
    padded = case.sharding == "encoders"
    for kind in STATES:
        if memory[kind]:
            share = padded and kind != "copy for evaluation"
            counted = case.simulated.memory[kind]
            yield Compared(f"{kind}, {case.name}", memory[kind], counted, PADDING if share else 1e-4)
    yield Compared(f"peak of a step, {case.name}", arithmetic.peak(memory), case.simulated.memory["peak"], 0.15)
    for kind, size in arithmetic.step_traffic(workload, case.sharding).items():
        counted = case.simulated.step.bytes[kind]
        yield Compared(f"{kind} of a step, {case.name}", size, counted, PADDING if padded else 1e-3)
    for kind, size in arithmetic.refresh_traffic(case.workload, case.world, case.sharding).items():
        counted = case.simulated.refresh.bytes[kind]
        yield Compared(f"{kind} of a refresh, {case.name}", size, counted, PADDING if padded else 1e-3)


def cost_table(workload: Workload, cases: Sequence[Case], machine: Machine) -> list[str]:
    """Return the rows of a table of the cost of a process, from simulated counts where there are any."""
    rows = []
    for case in cases:
        memory, sim = arithmetic.memory(workload, case.world, case.sharding), case.simulated
        state = sum(sim.memory[kind] for kind in STATES)
        sent = sim.step.sent(case.world)
        refresh = arithmetic.refresh_traffic(workload, case.world, case.sharding)["all-gather"]
        refreshed = ring("all-gather", refresh, case.world)
        compute = 3 * workload.batch * arithmetic.operations(workload) / machine.flops
        scored = arithmetic.operations(workload) * workload.calibration / case.world / machine.flops
        cells = [
            case.name,
            gigabytes(arithmetic.peak(memory)),
            gigabytes(sim.memory["peak"]),
            gigabytes(state),
            gigabytes(sim.memory["refresh"]),
            gigabytes(sent),
            f"{sum(sim.step.calls.values()) if case.sharding == 'encoders' else sim.buckets}",
            f"{1e3 * compute:.0f} + {1e3 * sent / machine.network:.0f} ms",
            gigabytes(refreshed),
            f"{scored:.2g} + {refreshed / machine.network:.2g} s",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def row_table(workload: Workload, worlds: Sequence[int]) -> list[str]:
    """Return the rows of a table of what a process keeps of the rows of the data, and of a checkpoint."""
    known = {kind: dict.fromkeys(worlds, size) for kind, size in arithmetic.table_memory(workload).items()}
    for memory in (arithmetic.calibration_memory, arithmetic.evaluation_memory):
        by_world = {world: memory(workload, world) for world in worlds}
        known |= {kind: {world: by_world[world][kind] for world in worlds} for kind in by_world[worlds[0]]}
    known["checkpoint, all processes"] = dict.fromkeys(worlds, arithmetic.checkpoint(workload))
    return [f"| {kind} | {' | '.join(map(gigabytes, sizes.values()))} |" for kind, sizes in known.items()]


def gigabytes(size: float) -> str:
    """Return a size with three digits."""
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


def report(title: str, header: str, rows: Sequence[str]) -> None:
    """Print a table."""
    print(f"\n## {title}\n\n| {header} |\n|{'---|' * (header.count('|') + 1)}")
    print(*rows, sep="\n", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print all tables; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small model, fewer and smaller jobs")
    parser.add_argument("--simulate", action="store_true", help="leave out the real runs")
    asked = parser.parse_args(arguments)
    quick = asked.quick
    workload, worlds = (SMALL, (8,)) if quick else (FULL, (8, 64, 512))
    machine = Machine()
    cases = simulated(workload, worlds)
    header = (
        "| peak of a step: arithmetic | simulated | of it state | peak of a refresh | sent in a step | collectives "
    )
    header += "| step: computation + traffic, assumed | sent in a refresh | refresh: scoring + traffic, assumed"
    report("Cost of a process; seconds from assumed rates", header, cost_table(workload, cases, machine))
    header = "by arithmetic | " + " | ".join(f"W = {world}" for world in worlds)
    report("Rows and files", header, row_table(workload, worlds))
    checks: list[Compared | Growth] = [one for case in cases for one in comparisons(workload, case)]
    title = "quantity | arithmetic | counted | difference | tolerance | holds"
    report("Simulated, against arithmetic", title, [one.row() for one in checks])
    if not asked.simulate:
        compared, growths = real.traffic_checks((2,) if quick else (2, 4), (64, 128, 256, 512))
        compared += real.memory_checks()
        growths += real.memory_growths()
        report("Real runs of a small model, against arithmetic", title, [one.row() for one in compared])
        title = "quantity | largest | exponent | fitted ± standard error | difference | tolerance | holds"
        report("Growth in real runs", title, [one.row() for one in growths])
        checks += [*compared, *growths]
    return int(not all(one.holds() for one in checks))


if __name__ == "__main__":
    sys.exit(main())
