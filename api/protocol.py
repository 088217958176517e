"""The answer to what is not HTTP at all: it has the envelope and an id too."""

import secrets

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.errors import ApiError, error_response


class Protocol(HttpToolsProtocol):
    """uvicorn's own, except for what it says when a request cannot be parsed: no application sees those."""

    def send_400_response(self, msg: str) -> None:
        request_id = f"req-{secrets.token_hex(12)}"
        headers = {"x-request-id": request_id, "x-content-type-options": "nosniff", "connection": "close"}
        message = f"the request is not HTTP/1.1: {msg}"
        answer = error_response(ApiError(400, "not_http", message, headers=headers))
        lines = [b"%b: %b\r\n" % header for header in answer.raw_headers]
        self.transport.write(b"".join([b"HTTP/1.1 400 Bad Request\r\n", *lines, b"\r\n", bytes(answer.body)]))
        self.transport.close()
