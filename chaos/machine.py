"""Full disk, read-only folder, a clock that jumps, lost files, and killed or hanging processes.

The command must end with exit code 2 and one sentence that names the remedy, or be unaffected; afterwards the run can
be resumed, with the results of an undisturbed one. Mounts small file systems, which needs root: without it those trials
are skipped. Linux only. About six minutes on two cores.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from _trials import (
    COMMAND,
    ENVIRONMENT,
    TORCHRUN,
    Running,
    Trials,
    children,
    helper,
    options,
    outcome,
    run,
    small,
    workplace,
)

IMPATIENT = """
from datetime import timedelta
from cpsc_train.__main__ import main
from cpsc_train.training import distributed
distributed.TIMEOUT = timedelta(seconds=15)
main()
"""
JUMPS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long jump(void) { return random() % 63072000 - 31536000; }  /* a year either way, at every reading */
int clock_gettime(clockid_t id, struct timespec *t) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec += jump();
    return code;
}
time_t time(time_t *at) {
    struct timespec t; clock_gettime(CLOCK_REALTIME, &t);
    if (at) *at = t.tv_sec;
    return t.tv_sec;
}
int gettimeofday(struct timeval *tv, void *zone) {
    struct timespec t; clock_gettime(CLOCK_REALTIME, &t);
    tv->tv_sec = t.tv_sec; tv->tv_usec = t.tv_nsec / 1000; return 0;
}
"""


class Machine:
    """The trials and their shared state."""

    def __init__(self, place: Path, trials: Trials, *, quick: bool, seed: int) -> None:
        self.place, self.trials, self.quick = place, trials, quick
        self.log = place / "log"
        self.draw = random.Random(seed)
        self.words = [*COMMAND, "train", "-q", *small(place, epochs=8)]
        run([*self.words, "--out", place / "whole"], self.log)

    def same(self, folder: Path) -> bool:
        """Return whether a run has the results of an undisturbed one."""
        return (folder / "results.json").exists() and outcome(folder) == outcome(self.place / "whole")

    def refused(self, name: str, running: Running, rule: str = "cannot be", code: int = 2) -> None:
        """Report whether a command ended with one sentence that contains `rule`."""
        got = running.process.returncode
        ok = got == code and "Traceback" not in running.output and rule in running.last
        self.trials.row(name, f"exit code {got}: {running.last}", ok=ok)

    def goes_on(self, name: str, folder: Path) -> None:
        """Report whether the run can be resumed, with the results of an undisturbed one."""
        last = run([*COMMAND, "train", "-q", "--resume", folder], self.log)
        same = self.same(folder)
        self.trials.row(f"{name}, resumed", f"exit code {last.process.returncode}, same outcome: {same}", ok=same)

    @contextlib.contextmanager
    def mounted(self, size: str) -> Iterator[Path]:
        """Yield the folder of a file system of that size."""
        folder = self.place / "mounted"
        folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)

    def full_disk(self) -> None:
        """Fill the disk at the folder, the splits, the first checkpoint, a later one, and the results."""
        for kilobytes in (4, 16, 64, 1000, 1400, 1800) if not self.quick else (16, 1400):
            with self.mounted(f"{kilobytes}k") as folder:
                made = folder / "run"
                self.refused(f"disk of {kilobytes} kB", run([*self.words, "--out", made], self.log))
                left = [str(path.relative_to(folder)) for path in folder.rglob("*.partial")]
                if left:
                    self.trials.row(f"disk of {kilobytes} kB, left behind", left, ok=False)
                subprocess.run(["mount", "-o", "remount,size=20m", folder], check=True)
                if made.exists():
                    self.goes_on(f"disk of {kilobytes} kB, then room", made)

    def read_only(self) -> None:
        """Make the run folder read-only: at the start, on resuming, and for every command that writes."""
        with self.mounted("20m") as folder:
            stopped = folder / "stopped"
            shutil.copytree(self.place / "whole", stopped)
            (stopped / "results.json").unlink()
            shutil.copytree(self.place / "whole", folder / "done")
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
            self.refused("read-only, new run", run([*self.words, "--out", folder / "new"], self.log))
            self.refused("read-only, resume", run([*COMMAND, "train", "--resume", stopped], self.log))
            seeds = [*self.words, "--seeds", "0..1", "--out", folder / "seeds"]
            self.refused("read-only, seeds", run(seeds, self.log), "Read-only")
            for words in (["benchmark", "--methods", "joint"], ["tune", "--methods", "joint"], ["ablate"]):
                again = [*COMMAND, *words, "--out", folder / words[0], "-q"]
                self.refused(f"read-only, {words[0]}", run(again, self.log), "Read-only")
            self.refused("read-only, report", run([*COMMAND, "report", folder / "done"], self.log), "Read-only")
            self.refused("read-only, export", run([*COMMAND, "export", folder / "done"], self.log))
            sweep = [*COMMAND, "evaluate", folder / "done", "--out", folder / "x.json"]
            self.refused("read-only, evaluate --out", run(sweep, self.log))
            code = run([*COMMAND, "evaluate", folder / "done"], self.log).process.returncode
            self.trials.row("read-only, evaluate", f"exit code {code}", ok=code == 0)
            log_file = [*self.words, "--out", self.place / "logged", "--log-file", folder / "log"]
            self.refused("read-only, --log-file", run(log_file, self.log))

    def full_output(self) -> None:
        """Send the output of commands to a device that is always full."""
        with Path("/dev/full").open("wb") as full:
            for words in (["--help"], ["recipes", "list"], ["train", *small(self.place), "--out", self.place / "full"]):
                running = run([*COMMAND, *words], self.log, stdout=full)
                self.refused(f"full output, {words[0]}", running, "No space left")
        log_file = [*self.words, "--out", self.place / "logged", "--log-file", "/dev/full"]
        self.refused("full log file", run(log_file, self.log), "--log-file /dev/full")

    def two_in_one_folder(self) -> None:
        """Start two runs in one new folder at once, and resume a run that is running."""
        folder = self.place / "shared"
        two = [Running([*self.words, "--out", str(folder)], self.place / f"log-{i}") for i in range(2)]
        codes = sorted(one.end() for one in two)
        lasts = " / ".join(one.last for one in two)
        self.trials.row("two new runs, one folder", f"{codes}: {lasts}", ok=codes == [0, 2] and self.same(folder))
        folder = self.place / "busy"
        first = Running([*self.words, "--out", str(folder)], self.place / "log-0")
        first.wait_for((folder / "metrics.jsonl").exists)
        os.kill(first.process.pid, signal.SIGSTOP)
        self.refused("resume of a live run", run([*COMMAND, "train", "--resume", folder], self.log), "another process")
        os.kill(first.process.pid, signal.SIGCONT)
        first.end()
        self.trials.row("that live run", f"same outcome: {self.same(folder)}", ok=self.same(folder))

    def clock(self) -> None:
        """Let every reading of the clock jump by up to a year."""
        if shutil.which("gcc") is None:
            self.trials.row("clock jumps", "skipped: gcc is not installed", ok=True)
            return
        library = self.place / "jumps.so"
        command = ["gcc", "-shared", "-fPIC", "-w", "-x", "c", "-", "-o", library, "-ldl"]
        subprocess.run(command, input=JUMPS.encode(), check=True)
        folder = self.place / "jumps"
        environment = ENVIRONMENT | {"LD_PRELOAD": str(library)}
        running = run([*self.words[:4], *self.words[5:], "--out", folder], self.log, env=environment)
        same, code = self.same(folder), running.process.returncode
        took = running.last.partition(" s;")[0]
        ok = code == 0 and same and 0 < float(took) < 120
        self.trials.row("clock jumps", f"exit code {code}, same outcome: {same}, says {took} s", ok=ok)

    def lost_file(self, workers: int) -> None:
        """Delete sounds of the data set in the middle of an epoch."""
        root, folder = helper("data/layouts").crema_d(self.place / f"clips-{workers}"), self.place / f"lost-{workers}"
        settings = ["data.size=16", "encoders.audio.name=small-cnn", "encoders.video.name=small-cnn", "batch_size=4"]
        settings += ["feature_dim=8", "method.warmup=1", "splits.calibration=12", f"compute.workers={workers}"]
        words = ["train", "--recipe", "crema-d", "--root", root, "--out", folder, "--epochs", "100", "--mode", "ours"]
        running = Running(list(map(str, [*COMMAND, *words, *(w for s in settings for w in ("--set", s))])), self.log)
        running.wait_for((folder / "metrics.jsonl").exists)
        sounds = sorted((root / "AudioWAV").iterdir())
        for sound in sounds[: len(sounds) // 2]:
            sound.unlink(missing_ok=True)
        running.end(60)
        self.refused(f"data files deleted, {workers} workers", running, "AudioWAV")

    def lost_worker(self) -> None:
        """Kill a loader worker."""
        folder = self.place / "worker"
        words = [*self.words, "--set", "compute.workers=2", "--set", "epochs=500", "--out", str(folder)]
        running = Running(words, self.log)
        running.wait_for((folder / "metrics.jsonl").exists)
        running.wait_for(lambda: children(running.process.pid))
        with contextlib.suppress(OSError, IndexError):
            os.kill(self.draw.choice(children(running.process.pid)), signal.SIGKILL)
        running.end(60)
        self.refused("worker killed", running, "compute.workers")

    def hung_process(self, stopped: int, undisturbed: Path) -> None:
        """Stop one of two training processes; the other waits for 15 s instead of 10 minutes."""
        folder, script = self.place / f"hung-{stopped}", self.place / "impatient.py"
        script.write_text(IMPATIENT)
        words = [*TORCHRUN[:-2], script, "train", "-q", *small(self.place, epochs=8), "--out", folder]
        running = Running(words, self.log)
        running.wait_for((folder / "metrics.jsonl").exists)
        ranks = sorted(children(running.process.pid))
        os.kill(ranks[stopped], signal.SIGSTOP)
        since = time.monotonic()
        running.wait_for(lambda: "cpsc: error" in running.output)
        other = time.monotonic() - since
        code = running.end(120)  # the launcher waits 30 s before it kills the hanging one
        ours = [line for line in running.output.splitlines() if line.startswith("cpsc:")]
        alive = [pid for pid in ranks if Path(f"/proc/{pid}").exists()]
        ok = len(ours) == 1 and "did not answer" in ours[0] and not alive and code not in {0, 255}
        name, took = f"process {stopped} of 2 hangs", time.monotonic() - since
        text = f"exit code {code}, the other ends after {other:.0f} s, the job after {took:.0f} s: {ours}"
        self.trials.row(name, text, ok=ok)
        again = run([*TORCHRUN, "train", "-q", "--resume", folder], self.log)
        done = (folder / "results.json").exists() and outcome(folder) == outcome(undisturbed)
        self.trials.row(f"{name}, resumed", f"exit code {again.process.returncode}, same outcome: {done}", ok=done)

    def lost_process(self, number: signal.Signals, lost: int, undisturbed: Path) -> None:
        """Kill one of two training processes, and resume with two."""
        folder = self.place / f"ranks-{number.name}-{lost}"
        words = [*TORCHRUN, "train", "-q", *small(self.place, epochs=8), "--out", str(folder)]
        running = Running(words, self.log)
        running.wait_for((folder / "metrics.jsonl").exists)
        ranks = sorted(children(running.process.pid))
        os.kill(ranks[lost], number)
        since = time.monotonic()
        code = running.end(60)
        took = time.monotonic() - since
        alive = [pid for pid in ranks if Path(f"/proc/{pid}").exists()]
        ours = [line for line in running.output.splitlines() if line.startswith("cpsc:")]
        bad = code in {0, 255} or alive or "internal error" in running.output
        name = f"process {lost} of 2, {number.name}"
        self.trials.row(name, f"exit code {code} after {took:.1f} s, alive {alive}, {ours}", ok=not bad)
        again = run([*TORCHRUN, "train", "-q", "--resume", folder], self.log)
        done = (folder / "results.json").exists() and outcome(folder) == outcome(undisturbed)
        self.trials.row(f"{name}, resumed", f"exit code {again.process.returncode}, same outcome: {done}", ok=done)


def main() -> int:
    """Run all trials."""
    asked = options(__doc__)
    trials = Trials()
    with workplace() as place:
        machine = Machine(place, trials, quick=asked.quick, seed=asked.seed)
        if os.geteuid() == 0:
            machine.full_disk()
            machine.read_only()
        else:
            trials.row("full disk, read-only folder", "skipped: mounting needs root", ok=True)
        machine.full_output()
        machine.two_in_one_folder()
        machine.clock()
        for workers in (0, 2):
            machine.lost_file(workers)
        machine.lost_worker()
        undisturbed = place / "two"
        run([*TORCHRUN, "train", "-q", *small(place, epochs=8), "--out", undisturbed], place / "log")
        ways = [(signal.SIGKILL, 1), (signal.SIGKILL, 0), (signal.SIGTERM, 1), (signal.SIGTERM, 0)]
        for number, lost in ways[:1] if asked.quick else ways:
            machine.lost_process(number, lost, undisturbed)
        for stopped in (1, 0):
            machine.hung_process(stopped, undisturbed)
    return trials.exit_code()


if __name__ == "__main__":
    sys.exit(main())
