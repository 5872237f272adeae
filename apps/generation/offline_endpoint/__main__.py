"""`python -m apps.generation.offline_endpoint --port 8765`"""

import argparse
import sys

from apps.generation.offline_endpoint.banks import BANKS_DIR, load_banks
from apps.generation.offline_endpoint.server import OfflineServer


def main() -> int:
    parser = argparse.ArgumentParser(prog="offline_endpoint", description=__import__(__package__, fromlist=["__doc__"]).__doc__)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--host", default="127.0.0.1", help="Address to listen on (default: this machine only).")
    options = parser.parse_args()
    try:
        server = OfflineServer((options.host, options.port), load_banks(BANKS_DIR))
    except OSError as error:
        print(
            f"The offline endpoint cannot listen on {options.host}:{options.port}: {error.strerror}. Choose another --port.",
            file=sys.stderr,
        )
        return 1
    with server:
        languages = ", ".join(sorted(server.banks.languages))
        print(f"Offline endpoint on {server.base_url} ({languages}; {server.banks.size} prompts with written answers).", flush=True)
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            print("Offline endpoint stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
