"""Leave out the callbacks of frameworks that are not installed."""

from importlib.util import find_spec

MODULES = {"lightning": ["lightning"], "transformers": ["transformers", "accelerate"]}
LACKING = [name for name, needs in MODULES.items() if not all(map(find_spec, needs))]
collect_ignore = [f"src/cpsc_rsc/callbacks/{name}.py" for name in LACKING]
collect_ignore += ["tests/lightning_worker.py"] if "lightning" in LACKING else []
