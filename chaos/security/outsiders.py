"""What a stranger's data set or run folder does to a process: memory, files outside, the terminal; and kills.

Each attack is a process of the command line. Looked at is what it took (memory, by the system's count), what it wrote
outside of its folder, and what it sent to its output. A minute and a half, half a minute with `--quick`.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from scipy.io import savemat

sys.path.insert(0, str(Path(__file__).parents[1] / "inputs"))

from files import make_run

MOST = 300
"""MiB that an attack may add to what the command takes without it."""
EVIL = "a[/v2]\x1b[31m\x07"


def cpsc(*arguments: object) -> tuple[int, str, float]:
    """Run a command; return its exit code, what it wrote, and the largest memory in MiB of it and its children."""
    with tempfile.TemporaryFile() as output:
        command = [sys.executable, "-m", "cpsc_train", *map(str, arguments)]
        process = subprocess.Popen(command, stdout=output, stderr=output)  # our own command
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        return process.returncode, output.read().decode("utf-8", "replace"), used.ru_maxrss / 1024


def refused(found: tuple[int, str, float], usual: float) -> str | None:
    """Return what is wrong where a command did not end in exit code 2 and one sentence, within its memory."""
    code, text, memory = found
    if memory > usual + MOST:
        return f"took {memory - usual:.0f} MiB more"
    return None if code == 2 and "Traceback" not in text else f"code {code}: {text[-200:]}"


def memory(folder: Path, run: Path) -> Iterator[tuple[str, str | None]]:
    """Small files that become large."""
    _, _, usual = cpsc("data", "check", "handwritten", "--workers", 0)
    path = folder / "a.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (4 * 10**8,)})
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        # In parts: the system counts the memory of this process as that of those it starts.
        with zipfile.ZipFile(path, "w", method) as archive, archive.open("label.npy", "w") as member:
            member.write(header.getvalue())
            for _ in range(400):
                member.write(bytes(10**6))
        size = path.stat().st_size
        found = cpsc("data", "check", "handwritten", "--set", f"data.file={path}", "--workers", 0)
        yield f"{size:,} bytes of archive that become 400 MB", refused(found, usual)
    scenes = folder / "nyu_depth_v2_labeled.mat"
    with h5py.File(scenes, "w") as file:
        kinds = file.create_dataset("sceneTypes", (1, 2), dtype=h5py.ref_dtype)
        for row in range(2):
            file[f"#refs#/{row}"] = np.frombuffer("kitchen".encode("utf-16-le"), np.uint16)
            kinds[0, row] = file[f"#refs#/{row}"].ref
        file.create_dataset("images", (2, 3, 15000, 15000), np.uint8)
        file.create_dataset("depths", (2, 15000, 15000), np.float32)
    found = cpsc("data", "check", "nyu-depth-v2", "--root", folder, "--workers", 0)
    yield f"{scenes.stat().st_size:,} bytes of HDF5 that claim 1.3 GB", refused(found, usual)
    with h5py.File(scenes, "a") as file:
        del file["images"], file["depths"]
        file["images"], file["depths"] = np.zeros((2, 3, 8, 6), np.uint8), np.ones((2, 8, 6), np.float32)
    savemat(folder / "splits.mat", {"trainNdxs": np.zeros((6 * 10**6, 1)), "testNdxs": [1]}, do_compression=True)
    found = cpsc("data", "check", "nyu-depth-v2", "--root", folder, "--workers", 0)
    yield "a list of MATLAB of 6 million numbers", refused(found, usual)


def links(folder: Path, run: Path) -> Iterator[tuple[str, str | None]]:
    """Make files of a run folder links to one that must not change."""
    secret = folder / "secret"
    attacks = {
        "report/report.html": ["report", "RUN"],
        "report/figures": ["report", "RUN"],
        "model.safetensors": ["export", "RUN"],
        "metrics.jsonl": ["train", "--resume", "RUN"],
        "environment.json": ["train", "--resume", "RUN"],
        ".lock": ["train", "--resume", "RUN"],
        "checkpoints": ["train", "--resume", "RUN"],
        "out.json": ["evaluate", "RUN", "--out", "RUN/out.json"],
    }
    for name, command in attacks.items():
        bent = folder / "bent"
        shutil.rmtree(bent, ignore_errors=True)
        shutil.copytree(run, bent)
        (bent / "results.json").unlink()  # as of a run that is to be resumed
        place = bent / name
        place.parent.mkdir(exist_ok=True)
        if place.is_dir():
            shutil.rmtree(place)
        secret.write_bytes((run / name).read_bytes() if (run / name).is_file() else b"mine")
        before = secret.read_bytes()
        place.unlink(missing_ok=True)
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        place.symlink_to(elsewhere if name in {"report/figures", "checkpoints"} else secret)
        code, text, _ = cpsc(*(word.replace("RUN", str(bent)) for word in command))
        wrong = "the target changed" if secret.read_bytes() != before else None
        wrong = wrong or ("a file was written there" if list(elsewhere.iterdir()) else None)
        wrong = wrong or (None if code == 2 and "is a link" in text else f"code {code}: {text[-200:]}")
        yield f"cpsc {command[0]} where {name} is a link", wrong


def terminal(folder: Path, run: Path) -> Iterator[tuple[str, str | None]]:
    """Names that are markup and control characters."""
    shutil.copytree(run, folder / EVIL)
    for command in (
        ["report", folder / EVIL],
        ["evaluate", folder / EVIL],
        ["export", folder / EVIL],
        ["report", folder / "absent" / EVIL],
        ["train", "--config", EVIL],
        ["train", f"--{EVIL}"],
        ["train", "--recipe", EVIL],
        ["train", "--set", f"data.{EVIL}=1"],
        ["evaluate", folder / EVIL, "--noise", f"{EVIL}:gaussian:1"],
    ):
        code, text, _ = cpsc(*command)
        sent = {sign for sign in text if ord(sign) < 32} - {"\n", "\t"}
        wrong = f"sent {sent}" if sent else None if code in {0, 2} else f"code {code}: {text[-200:]}"
        yield f"cpsc {command[0]} … {str(command[-1])[-16:]!r}", wrong


def kills(folder: Path, run: Path) -> Iterator[tuple[str, str | None]]:
    """Kill preparations at random moments; they go on."""
    draw = random.Random(0)  # moments, and no secrets
    root = folder / "data"
    for part in ("train", "test"):
        for kind in ("a", "b"):
            place = root / part / kind
            place.mkdir(parents=True)
            for number in range(40):
                write_pair(place / f"{number}.png", draw)
    for option in ("--cache", "--shards"):
        out = folder / option[2:]
        command = ["data", "prepare", "nyu-depth-v2", "--root", str(root), option, str(out), "--workers", "0"]
        for _ in range(4):
            silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = subprocess.Popen([sys.executable, "-m", "cpsc_train", *command], **silent)
            while not out.exists() and process.poll() is None:
                time.sleep(0.001)
            time.sleep(draw.random() * 0.3)
            process.kill()
            process.wait()
        code, text, _ = cpsc(*command)
        yield f"cpsc data prepare {option} after four kills", None if code == 0 else f"code {code}: {text}"


def write_pair(path: Path, draw: random.Random) -> None:
    """Write a picture of colour beside depth."""
    from PIL import Image  # noqa: PLC0415

    Image.frombytes("RGB", (96, 32), draw.randbytes(96 * 32 * 3)).save(path)


def main() -> int:
    """Attack, print a line for each attack, and return 1 if one got through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="memory and links only")
    parser.add_argument("--seed", type=int, default=0, help="only the moments of kills are random, and seeded by 0")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        run = make_run(folder)
        for attack in (memory, links, *(() if options.quick else (terminal, kills))):
            place = folder / attack.__name__
            place.mkdir()
            for name, wrong in attack(place, run):
                failed += wrong is not None
                told = "" if wrong is None else f": {wrong[:300]!r}"
                print(f"{attack.__name__:<10}{'ok' if wrong is None else 'FAILED':<8}{name!r:.100}{told}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
