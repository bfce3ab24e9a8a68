"""Leave out the callbacks of frameworks that are not installed."""

from importlib.util import find_spec

MODULES = {"lightning": ["lightning"], "transformers": ["transformers", "accelerate"]}
collect_ignore = [
    f"src/cpsc_rsc/callbacks/{name}.py" for name, needs in MODULES.items() if not all(map(find_spec, needs))
]
