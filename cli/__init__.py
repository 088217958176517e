"""The `trainyard` command."""

import sys

# httpx imports rich for a command line of its own, which would cost each of our commands 40 ms. A module that is None here
# cannot be imported, and httpx then does without it.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
