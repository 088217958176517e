"""The `trainyard` command."""

import sys

# httpx has a command line of its own, for which it imports rich: 40 ms that no command of ours should wait for. What
# stands as None here cannot be imported, and httpx then goes without.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
