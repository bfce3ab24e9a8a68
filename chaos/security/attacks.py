"""Files that were made to do harm: code in pickles, paths that lead out, sizes that are claimed, names that are HTML.

Each attack is on the real readers and commands, and looks whether the harm was done: a marker that code wrote, a file
outside, memory that was asked for, an element in a page. The source and the history are searched besides. Two minutes.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import pickle
import re
import resource
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "inputs"))

from commands import fault
from files import make_run

from cpsc_train.data import DataConfig
from cpsc_train.data.media.images import read_image
from cpsc_train.data.media.sound import read_sound
from cpsc_train.data.storage.cache import Cache
from cpsc_train.data.storage.packed import open_packed
from cpsc_train.data.storage.untrusted import inside
from cpsc_train.errors import UserError
from cpsc_train.models.encoders.imported import ImportedConfig
from cpsc_train.models.fusion import ImportedFusionConfig
from cpsc_train.training import checkpoint

ROOT = Path(__file__).parents[2]
HTML = "<img src=x onerror=alert(1)><script>alert(1)</script>'\"&"
SECRETS = {
    "private key": r"-----BEGIN (?:RSA |EC |OPENSSH |DSA |PGP )?PRIVATE KEY",
    "token of a cloud": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_-]{35}\b",
    "token of a forge": r"\b(?:ghp|gho|ghs|ghu|github_pat|glpat|hf|pypi)[-_][0-9A-Za-z_-]{20,}\b",
    "token of a chat": r"\bxox[abprs]-[0-9A-Za-z-]{10,}\b",
    "password in an address": r"\b[a-z]+://[^/\s:@'\"{}]+:[^/\s:@'\"{}]{4,}@[a-z]",
    "assigned secret": r"(?i)\b(?:password|passwd|secret|api_?key|token)\s*=\s*['\"][^'\"\s]{12,}['\"]",
}


class Bomb:
    """Writes a marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.write_text, (self.marker, "ran"))


def refused(read: Callable[[], object]) -> str | None:
    """Return what is wrong where a reader does not refuse."""
    try:
        read()
    except UserError:
        return None
    except Exception as error:  # whatever else escapes is the finding
        return f"{type(error).__name__}: {error}"
    return "was read"


def pickles(folder: Path, run: Path) -> Iterator[tuple[str, str | None]]:
    """Code in files of kinds that can hold pickles."""
    marker = folder / "marker"
    bomb = Bomb(marker)
    array = np.empty(1, dtype=object)
    array[0] = bomb
    path = folder / "bomb.npz"
    np.savez(path, label=array, pix=array, fou=array)

    def after(said: str | None) -> str | None:
        return "code ran" if marker.exists() else said

    torch.save({"model": bomb}, folder / "bomb.pt")
    (folder / "plain.pt").write_bytes(pickle.dumps(bomb))
    for name in ("bomb.pt", "plain.pt"):
        yield (
            f"a pickle in {name}",
            after(refused(lambda name=name: checkpoint.load(folder / name, torch.device("cpu")))),
        )
    yield (
        "objects in the arrays of a data set",
        after(refused(lambda: DataConfig.named("handwritten")(file=str(path)).load())),
    )
    for name, command in (
        ("predictions.npz", ["report"]),
        ("checkpoint.pt", ["evaluate"]),
        ("checkpoint.pt", ["export"]),
    ):
        bent = folder / "bent"
        shutil.rmtree(bent, ignore_errors=True)
        shutil.copytree(run, bent)
        shutil.copy(path if name.endswith("npz") else folder / "bomb.pt", bent / name)
        yield f"cpsc {command[0]} on a pickle in {name}", after(fault([*command, str(bent)]))


def paths(folder: Path, run: Path) -> Iterator[tuple[str, str | None]]:  # all attacks are called alike
    """Paths that lead out of where they should stay."""
    for name in ("../x", "/etc/passwd", "a/../../x", "a\0b", "x" * 300, "\ud800"):
        yield f"{name[:12]!r} in a list", refused(lambda name=name: inside(folder, name, "list:1"))
    packed = folder / "packed"
    packed.mkdir()
    for shard in ("../x.tar", "/etc/passwd", "a/b.tar", ".."):
        (packed / "index.json").write_text(json.dumps({"refs": {"a": [shard, 0, 1]}}), encoding="utf-8")
        yield f"{shard!r} as a shard of an index", refused(lambda: open_packed(str(packed)))
    (packed / "index.json").write_text(json.dumps({"refs": {"../../x": ["0.tar", 0, 1]}}), encoding="utf-8")
    with tarfile.open(packed / "0.tar", "w") as tar:
        info = tarfile.TarInfo("../../out")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"out"))
    found = open_packed(str(packed))
    reached = found is not None and (found / "../../x").read_bytes()
    yield (
        "'..' inside a tar is a name there and no file",
        "a file was written" if (folder.parent / "out").exists() else None if reached else "not read",
    )
    session = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    for name, text in (
        ("a playlist", "ffconcat version 1.0\nfile other.mp4\n"),
        ("a description of a session", session),
    ):
        (folder / "list.mp4").write_text(text, encoding="utf-8")
        yield f"{name} as .mp4", refused(lambda: read_sound(folder / "list.mp4"))


def sizes(folder: Path, run: Path) -> Iterator[tuple[str, str | None]]:
    """Headers that claim a terabyte; this process may have a few gigabytes, and uses less."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def bounded(said: str | None) -> str | None:
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        return f"took {grown:.0f} MiB" if grown > 400 else said

    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(folder / "large.npz", "w") as archive:
        for name in ("label", "pix", "fou"):
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(80))
    yield (
        "an array of 8 TB",
        bounded(refused(lambda: DataConfig.named("handwritten")(file=str(folder / "large.npz")).load())),
    )
    torch.save({"model": {"w": torch.zeros(4)}}, folder / "small.pt")
    with zipfile.ZipFile(folder / "small.pt") as whole, zipfile.ZipFile(folder / "forged.pt", "w") as forged:
        for name in whole.namelist():
            held = whole.read(name)
            if name.endswith("data.pkl"):
                held = held.replace(b"K\x04", b"\x8a\x06\x00\x00\x00\x00\x00\x01")  # 4 becomes 2^40
            forged.writestr(name, held)
    yield (
        "a tensor of 4 TB in a checkpoint",
        bounded(refused(lambda: checkpoint.load(folder / "forged.pt", torch.device("cpu")))),
    )

    def png(width: int, height: int) -> bytes:
        def part(kind: bytes, held: bytes) -> bytes:
            return struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))

        size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return (
            b"\x89PNG\r\n\x1a\n" + part(b"IHDR", size) + part(b"IDAT", zlib.compress(bytes(10**6))) + part(b"IEND", b"")
        )

    (folder / "large.png").write_bytes(png(2**20, 2**20))
    yield "an image of 3 TB", bounded(refused(lambda: read_image(folder / "large.png")))
    wav = (
        b"RIFF\xff\xff\xff\x7fWAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
        + b"data\xff\xff\xff\x7f"
        + bytes(100)
    )
    (folder / "large.wav").write_bytes(wav)
    try:
        few = read_sound(folder / "large.wav")
        said = None if np.asarray(few[0]).nbytes < 10**6 else "believed"
    except UserError:
        said = None
    yield "a sound of 2 GB", bounded(said)
    cache = folder / "cache"
    cache.mkdir()
    (cache / "cache.json").write_text('{"hash": "k", "of": {}}', encoding="utf-8")
    (cache / "m-00000.bin").write_bytes(bytes(100))
    for entry in ([0, [10**6, 10**6], "<f8"], [0, [-1], "<f8"], [2**62, [4], "<f8"], [0, [1], "O"], [-80, [4], "<f8"]):
        (cache / "m-00000.json").write_text(json.dumps({"a": entry}), encoding="utf-8")
        yield f"{entry} in a cache", bounded(refused(lambda: Cache.open(str(cache), "k", 1, ["m"]).read("m", "a")))


class Elements(HTMLParser):
    """What a page holds that could run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note scripts, handlers, and addresses that are not data."""
        held = dict(attrs)
        if tag == "meta" and held.get("http-equiv") == "Content-Security-Policy":
            self.policy = held.get("content") or ""
        outside = [
            value
            for name, value in attrs
            if name in ("src", "srcset", "href") and not (value or "").startswith(("data:", "#"))
        ]
        if (
            tag in ("script", "iframe", "object", "embed", "svg", "form")
            or outside
            or any(name.startswith("on") for name in held)
        ):
            self.found.append(self.get_starttag_text() or tag)


def pages(folder: Path, run: Path) -> Iterator[tuple[str, str | None]]:
    """Names that are HTML, in every place that a report shows."""
    bent = folder / HTML.replace("/", "")
    shutil.copytree(run, bent)
    for name in ("results.json", "environment.json", "metrics.jsonl"):
        path = bent / name
        path.write_text(
            path.read_text(encoding="utf-8").replace('"fou', json.dumps(HTML)[:-1] + "fou"), encoding="utf-8"
        )
    config = (bent / "config.toml").read_text(encoding="utf-8")
    quoted = json.dumps(HTML + "fou")
    config = re.sub(r'"fou"', lambda _: quoted, config)
    config = re.sub(r"^(\[?[\w.]*\b)fou\b", lambda found: found[1] + quoted, config, flags=re.MULTILINE)
    (bent / "config.toml").write_text(
        config.replace('recipe = "handwritten"', f"recipe = {json.dumps(HTML)}"), encoding="utf-8"
    )
    with np.load(bent / "predictions.npz") as held:
        arrays = {name.replace("fou", HTML.replace("/", "") + "fou"): array for name, array in held.items()}
    arrays["classes"] = np.asarray([HTML + str(number) for number in range(len(arrays["classes"]))])
    for name, runs in (("one run", [bent]), ("two runs", [bent, run])):
        said = fault(["report", *map(str, runs), "--out", str(folder / "page")])
        page = folder / "page" / "report.html"
        if not page.exists():
            yield f"a report of {name}", said or "no report was written"
            continue
        text = page.read_text(encoding="utf-8")
        elements = Elements()
        elements.feed(text)
        wrong = f"holds {elements.found[0][:80]}" if elements.found else None
        wrong = wrong or (None if "default-src 'none'" in elements.policy else "has no policy")
        yield f"a report of {name} ({text.count('&lt;script&gt;')} names escaped)", said or wrong
        shutil.rmtree(folder / "page")


def source(folder: Path, run: Path) -> Iterator[tuple[str, str | None]]:
    """Look for calls that can run what they read."""
    bad = []
    for path in sorted(ROOT.glob("packages/*/src/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                bad += [
                    f"{path.name}:{node.lineno} {name}"
                    for name in names
                    if name.split(".")[0] in ("pickle", "marshal", "shelve", "dill", "joblib", "yaml")
                ]
            if not isinstance(node, ast.Call):
                continue
            called, given = ast.unparse(node.func), {key.arg: ast.unparse(key.value) for key in node.keywords}
            wrong = called in ("eval", "exec", "compile", "os.system", "np.loadtxt") or called.endswith(".extractall")
            wrong |= called == "torch.load" and given.get("weights_only") != "True"
            wrong |= called == "np.load" and given.get("allow_pickle") != "False"
            wrong |= given.get("shell") == "True" or given.get("trust_remote_code", "False") != "False"
            bad += [f"{path.name}:{node.lineno} {called}"] if wrong else []
    yield "no pickle, eval, shell, extraction in the source", ", ".join(bad) or None
    for kind in (ImportedConfig, ImportedFusionConfig):
        says = "runs that code" in (kind.__doc__ or "")
        yield f"{kind.__name__} says that it runs code", None if says else "does not"


def history(folder: Path, run: Path) -> Iterator[tuple[str, str | None]]:
    """Look for secrets in what was ever committed."""
    log = subprocess.run(
        ["git", "log", "-p", "--all", "--no-color", "--text", "--", ".", ":!*.npz"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode("utf-8", "replace")  # git of the path
    added = [line[1:] for line in log.splitlines() if line.startswith("+") and "re.compile" not in line]
    for name, pattern in SECRETS.items():
        found = [
            line.strip()[:80]
            for line in added
            if re.search(pattern, line) and "chaos/security" not in line and 'r"' not in line
        ]
        yield f"no {name} in {len(added)} added lines", f"{len(found)}, such as {found[0]!r}" if found else None


def main() -> int:
    """Attack, print a line for each attack, and return 1 if one got through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the reports")
    parser.add_argument("--seed", type=int, default=0, help="nothing here is random")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    failed = 0
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        run = make_run(folder)
        attacks = (source, history, paths, sizes, pickles, *(() if options.quick else (pages,)))
        for attack in attacks:
            place = folder / attack.__name__
            place.mkdir()
            for name, said in attack(place, run):
                failed += said is not None
                print(
                    f"{attack.__name__:<10}{'ok' if said is None else 'FAILED':<8}{name}"
                    f"{'' if said is None else ': ' + said[:300]}",
                    flush=True,
                )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
