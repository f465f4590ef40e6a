"""`python -m signal_gateway` is the command `signal-gateway`."""

import sys

from signal_gateway.cli import main

if __name__ == "__main__":
    sys.exit(main())
