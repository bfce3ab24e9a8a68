"""Address spaces that are too small, from the loading of torch to the last file, for every command that needs memory.

Each command ends rightly, or in one sentence with exit code 2 and without half a file; what it has begun goes on to the
usual end once there is room. In between lie sizes in which libraries crash while they are loaded, before there is
anything to lose. Needs prlimit. About five minutes on two cores.
"""

from __future__ import annotations

import shutil
import signal
import sys

from _trials import COMMAND, Trials, layouts, options, outcome, run, small, workplace

GIGABYTES = (2.0, 3.0, 3.2, 3.3, 3.4, 3.5, 3.6, 3.8, 4.0, 6.0, 8.0)
CRASHES = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS}


def limited(gigabytes: float, words: list[object]) -> list[object]:
    """Return the command with a limit."""
    return ["prlimit", f"--as={round(gigabytes * 1e9)}", *COMMAND, *words]


def main() -> int:
    """Run every command in every size."""
    asked = options(__doc__)
    trials = Trials()
    if shutil.which("prlimit") is None:
        trials.row("memory", "left out: there is no prlimit", ok=True)
        return trials.exit_code()
    with workplace() as place:
        log, done = place / "log", place / "done"
        words = ["train", "-q", *small(place)]
        run([*COMMAND, *words, "--out", done], log)
        files = layouts().crema_d(place / "files")
        prepare = ["data", "prepare", "crema-d", "--root", files, "--set", "data.split=speaker", "--workers"]
        commands = {
            "train": [*words, "--out"],
            "train, 2 workers": [*words, "--set", "compute.workers=2", "--out"],
            "evaluate": ["evaluate", done, "--out"],
            "report": ["report", done, "--out"],
            "data prepare --cache": [*prepare, "0", "--cache"],
            "data prepare --cache, 2 workers": [*prepare, "2", "--cache"],
        }
        for name, command in commands.items():
            needed, crashed = float("inf"), []
            for size in GIGABYTES[::4] if asked.quick else GIGABYTES:
                out = place / f"{name.replace(' ', '-')}-{size}"
                running = run(limited(size, [*command, out]), log, 600)
                code, said = running.process.returncode, running.said
                if code in CRASHES and not out.exists() and not said:
                    crashed.append(size)
                    continue
                faults = [] if code in {0, 2} else [f"exit code {code}"]
                sentences = [line for line in said.splitlines() if line.startswith("cpsc: error: ")]
                if code and (len(sentences) != 1 or "memory" not in sentences[0]):
                    faults.append("not one sentence about memory")
                faults += [f"{path.name} is left" for path in place.rglob("*.partial")]
                needed = min(needed, size) if code == 0 else needed
                if code and name.startswith("train") and out.exists():
                    run([*COMMAND, "train", "-q", "--resume", out], log)
                    faults += (
                        [] if (out / "results.json").exists() and outcome(out) == outcome(done) else ["other outcome"]
                    )
                elif code and out.exists():
                    again = run([*COMMAND, *command, out], log)
                    faults += [] if again.process.returncode == 0 else [f"does not go on: {again.last}"]
                if faults:
                    trials.row(f"{name}, {size} GB", f"{faults}: {said[-400:]}", ok=False)
            trials.row(
                name, f"ends rightly from {needed} GB on; cannot even say so at {crashed}", ok=needed < max(GIGABYTES)
            )
    return trials.exit_code()


if __name__ == "__main__":
    sys.exit(main())
