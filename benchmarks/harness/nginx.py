"""nginx as the peer for downloads: one worker, sendfile on, no logs, all of its files in a temporary folder."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness.processes import answers, free_port, running, wait_until

_CONFIG = """
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        location = /up {{ return 200; }}
    }}
}}
"""


def program() -> str:
    """Return the path of nginx. Raises SystemExit if it is not installed."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SystemExit(
            "nginx is what downloads are compared with, and it is not on the path: apt-get install -y nginx"
        )
    return found


@contextmanager
def serve(folder: Path, root: Path) -> Iterator[int]:
    """Serve the files below `root` and yield the port."""
    folder.mkdir()
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # stored files are their owner's alone
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, port=port, root=root, user=user))
    log = folder / "nginx.log"
    command = [program(), "-p", folder, "-c", config, "-e", folder / "error.log"]
    with running(command, log=log, environment={}) as process:
        wait_until(lambda: answers(port, "/up"), process, log)
        yield port
