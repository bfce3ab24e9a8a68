"""What the source of the package does not do."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import cpsc_train

SOURCE = Path(cpsc_train.__file__).parent
CODE = {"pickle", "marshal", "shelve", "dill", "joblib", "yaml", "code", "codeop"}
NETWORK = {"urllib", "http", "requests", "socket", "ftplib", "smtplib", "aiohttp", "httpx", "huggingface_hub", "boto3"}


@cache
def trees():
    return [(path.relative_to(SOURCE), ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCE.rglob("*.py")]


def nodes(kind):
    for path, tree in trees():
        yield from ((f"{path}:{node.lineno}", node) for node in ast.walk(tree) if isinstance(node, kind))


def imported():
    for where, node in nodes((ast.Import, ast.ImportFrom)):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        yield from ((where, name.split(".")[0]) for name in names)


def test_no_call_runs_what_it_reads():
    bad = [found for found in imported() if found[1] in CODE]
    for where, call in nodes(ast.Call):
        name, given = ast.unparse(call.func), {key.arg: ast.unparse(key.value) for key in call.keywords}
        wrong = name in {"eval", "exec", "compile", "os.system"} or name.endswith(".extractall")
        wrong |= name == "torch.load" and given.get("weights_only") != "True"
        wrong |= name in {"np.load", "npy.read_array"} and given.get("allow_pickle") != "False"
        wrong |= given.get("shell") == "True" or given.get("trust_remote_code", "False") != "False"
        wrong |= name == "Image.open" and "formats" not in given
        bad += [(where, name)] if wrong else []
    assert bad == []


def test_nothing_is_downloaded():
    """fsspec reaches a network for an address that is given as a data set; huggingface_hub in a module of its own."""
    bad = [found for found in imported() if found[1] in NETWORK and not found[0].startswith("deployment/hub.py:")]
    for where, call in nodes(ast.Call):
        name, given = ast.unparse(call.func), {key.arg: ast.unparse(key.value) for key in call.keywords}
        wrong = name.endswith(".from_pretrained") and given.get("local_files_only") != "True"
        wrong |= name.endswith((".load_state_dict_from_url", "hub.load", "urlopen", "urlretrieve"))
        bad += [(where, name)] if wrong else []
    assert bad == []
    where = {
        path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if "url_to_fs(" in path.read_text("utf-8")
    }
    assert where == {"data/storage/store.py"}


def test_one_place_writes():
    """A file that is opened to be written anywhere else may be a link, or half there."""
    followed = {"experiments/task.py"}  # logs
    allowed = {"writing.py", "data/preparation/packing.py", *followed}
    bad = []
    for where, call in nodes(ast.Call):
        name = ast.unparse(call.func).rpartition(".")[2]
        modes = {arg.value for arg in call.args if isinstance(arg, ast.Constant)} if name == "open" else set()
        if name in {"write_text", "write_bytes", "tofile", "to_csv", "save_file"} or modes & {
            "w",
            "wb",
            "a",
            "ab",
            "x",
        }:
            bad += [] if where.rpartition(":")[0] in allowed else [(where, name)]
    assert bad == []
