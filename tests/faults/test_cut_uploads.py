"""An upload in parts whose connection goes away a hundred times."""

import hashlib
import http.client
import random
from pathlib import Path

from tests.integration.api.live import CHAT, Live, served, until

_CUTS = 100
_PART_BYTES = 40 * len(CHAT)
_PARTS = 50
_BEFORE = b'--cut\r\ncontent-disposition: form-data; name="data"; filename="part"\r\n\r\n'
_AFTER = b"\r\n--cut--\r\n"


class Sender:
    """Sends parts over connections that it cuts, in the body or before the answer."""

    def __init__(self, live: Live, upload_id: str) -> None:
        self._live = live
        self._path = f"/v1/uploads/{upload_id}/parts"
        self._rng = random.Random(1)

    def cut(self, data: bytes) -> None:
        """Send some of a part, or all of it, and do not wait for what becomes of it."""
        body = _BEFORE + data + _AFTER
        connection = self._begin(body)
        connection.send(body[: self._rng.choice([self._rng.randrange(len(body)), len(body)])])
        connection.close()

    def send(self, data: bytes) -> str:
        """The id of the part."""
        parts = {"data": ("part", data)}
        answer = self._live.mine.post(self._path, files=parts)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def _begin(self, body: bytes) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._live.url.removeprefix("http://"), timeout=10)
        connection.putrequest("POST", self._path)
        connection.putheader("authorization", self._live.mine.headers["authorization"])
        connection.putheader("content-type", "multipart/form-data; boundary=cut")
        connection.putheader("content-length", str(len(body)))
        connection.endheaders()
        return connection


def test_an_upload_that_is_cut_a_hundred_times_arrives_whole_and_only_cut_parts_are_sent_again(
    tmp_path: Path, database_url: str
) -> None:
    content = CHAT * (40 * _PARTS)
    about = {"bytes": len(content), "filename": "rows.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"}
    cuts = [random.Random(number).randrange(_PARTS) for number in range(_CUTS)]
    with served(tmp_path, database_url) as live:
        upload_id = live.mine.post("/v1/uploads", json=about).json()["id"]
        sender = Sender(live, upload_id)
        ids = []
        for number in range(_PARTS):
            data = content[number * _PART_BYTES : (number + 1) * _PART_BYTES]
            for _ in range(cuts.count(number)):
                sender.cut(data)
            ids.append(sender.send(data))
        done = live.mine.post(f"/v1/uploads/{upload_id}/complete", json={"part_ids": ids})
        assert done.status_code == 200, done.text
        came = live.mine.get(f"/v1/files/{done.json()['file']['id']}/content").content
        until(lambda: not list((live.service.blobs.root / "tmp").iterdir()))
    assert hashlib.sha256(came).hexdigest() == hashlib.sha256(content).hexdigest()
