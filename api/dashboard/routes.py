"""/: the dashboard, as built by `make page`. All its client-side paths return the same document."""

from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from api.dashboard.files import PageFile, page_files
from api.settings import ApiSettings

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FOREVER = "public, max-age=31536000, immutable"
_NOT_BUILT = """<!doctype html><html lang=en><meta charset=utf-8><title>Trainyard</title>
<h1>The dashboard has not been built</h1>
<p>The API runs: <a href=/docs>/docs</a> lists its routes. To have the dashboard here, run this once in the repository
and start the service again:</p>
<pre>make page</pre></html>
"""
# Paths of the API: an unknown one below these is an error in the envelope, never the dashboard.
_API_PATHS = ("/v1/", "/docs", "/openapi.json", "/healthz", "/readyz")


class Page:
    """An ASGI application that serves the dashboard where no route matches."""

    def __init__(self, files: dict[str, PageFile], otherwise: Any) -> None:
        self._files = files
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = self._response(Request(scope)) if scope["type"] == "http" else None
        await (response or self._otherwise)(scope, receive, send)

    def _response(self, request: Request) -> Response | None:
        path = request.url.path
        if request.method not in {"GET", "HEAD"} or path.startswith(_API_PATHS):
            return None
        file = self._files.get(path.removeprefix("/"))
        if file is None and "text/html" in request.headers.get("accept", ""):
            if not self._files:
                return Response(_NOT_BUILT, 503, media_type="text/html")
            file = self._files["index.html"]
        return None if file is None else _file_response(request, file)


def add_page(app: FastAPI, settings: ApiSettings) -> None:
    """Make the application serve the dashboard where it has no route of its own."""
    app.router.default = Page(page_files(settings.page_dir), app.router.default)


def _file_response(request: Request, file: PageFile) -> Response:
    headers = {
        "ETag": file.etag,
        "Cache-Control": _FOREVER if file.lasting else "no-cache",
        "Vary": "Accept-Encoding",
        "Content-Security-Policy": _POLICY,
    }
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if file.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, 200, headers | {"Content-Encoding": "gzip"}, media_type=file.media_type)
    return Response(file.content, 200, headers, media_type=file.media_type)
