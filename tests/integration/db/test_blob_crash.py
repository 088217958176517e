"""A process that is killed while it writes blobs leaves none that is visible and broken."""

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from db.blobs import BlobStore

ROOT = Path(__file__).parents[3]
WRITER = """
import os, sys
from pathlib import Path
from db.blobs import BlobStore
blobs = BlobStore(Path(sys.argv[1]), low_space_bytes=0)
print("ready", flush=True)
while True:
    with blobs.writer() as writer:
        for _ in range(8):
            writer.write(os.urandom(100_000))
        writer.commit()
"""
KILLS = 10


def test_after_kill_9_every_visible_blob_is_whole(tmp_path: Path):
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(random.uniform(0.02, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    blobs = BlobStore(tmp_path, low_space_bytes=0)
    visible = [path for path in tmp_path.glob("??/??/*") if path.is_file()]
    assert visible, "no blob was written before a kill"
    for path in visible:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        assert blobs.path(path.name) == path
