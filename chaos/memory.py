"""Address spaces that are too small, for every command that needs memory.

Each command must succeed, or end with one sentence, exit code 2 and no incomplete file; with more memory, what it began
can be resumed, with the usual results. At some sizes libraries crash while they are loaded, before anything is written.
Needs prlimit. About five minutes on two cores.
"""

from __future__ import annotations

import shutil
import signal
import sys

from _trials import COMMAND, Trials, helper, options, outcome, run, small, workplace

GIGABYTES = (2.0, 3.0, 3.2, 3.3, 3.4, 3.5, 3.6, 3.8, 4.0, 6.0, 8.0)
CRASHES = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS}


def limited(gigabytes: float, words: list[object]) -> list[object]:
    """Return the command with a limit on its address space."""
    return ["prlimit", f"--as={round(gigabytes * 1e9)}", *COMMAND, *words]


def main() -> int:
    """Run every command with every size."""
    asked = options(__doc__)
    trials = Trials()
    if shutil.which("prlimit") is None:
        trials.row("memory", "skipped: prlimit is not installed", ok=True)
        return trials.exit_code()
    with workplace() as place:
        log, done = place / "log", place / "done"
        words = ["train", "-q", *small(place)]
        run([*COMMAND, *words, "--out", done], log)
        files = helper("data/layouts").crema_d(place / "files")
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
                code, text = running.process.returncode, running.output
                if code in CRASHES and not out.exists() and not text:
                    crashed.append(size)
                    continue
                faults = [] if code in {0, 2} else [f"exit code {code}"]
                sentences = [line for line in text.splitlines() if line.startswith("cpsc: error: ")]
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
                    faults += [] if again.process.returncode == 0 else [f"cannot be repeated: {again.last}"]
                if faults:
                    trials.row(f"{name}, {size} GB", f"{faults}: {text[-400:]}", ok=False)
            trials.row(name, f"succeeds from {needed} GB; crashes on import at {crashed}", ok=needed < max(GIGABYTES))
    return trials.exit_code()


if __name__ == "__main__":
    sys.exit(main())
