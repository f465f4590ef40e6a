"""Run every bench, one after the other: `python -m bench [NAME ...]`, or `make bench`."""

import subprocess
import sys

BENCHES = {
    "codecs": ["bench.codecs"],
    "storage": ["bench.storage"],
    "heartbeat": ["bench.heartbeat"],
    "heartbeat-10": ["bench.heartbeat", "--in-flight", "10"],
    "heartbeat-1000": ["bench.heartbeat", "--links", "1000"],
}


def main() -> int:
    """The exit code of the last bench that failed; 2 for a name that is none."""
    names = sys.argv[1:] or list(BENCHES)
    if unknown := [name for name in names if name not in BENCHES]:
        print(f"there is no bench {unknown[0]!r}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    code = 0
    for name in names:
        print(f"== {name}", flush=True)
        code = subprocess.run([sys.executable, "-m", *BENCHES[name]], check=False).returncode or code
    return code


if __name__ == "__main__":
    sys.exit(main())
