"""The API as the commands see it: errors with exit codes, cursor pages, ids by unique prefix."""

from collections.abc import Iterator
from typing import Any

import click
import httpx

from cli.errors import CommandError, Exit
from cli.output import sentence
from cli.place import api_key, service_url

_PAGE_ROWS = 100
_SERIES_ROWS = 1000
_ID_CHARACTERS = 26
"""Of an id, behind its noun and a dash; the alphabet ends with z."""
_PLACES = {"ckpt": "checkpoints"}
"""Where a noun is listed, if not under its plural."""
_AMBIGUOUS_SHOWN = 5
DESTRUCTIVE_FEWEST = 4
"""Characters of an id that `rm` and `cancel` ask for."""
_LISTED_FAULTS = 20
_TIMEOUT = httpx.Timeout(connect=5, read=60, write=60, pool=5)

_EXITS = {
    400: Exit.INVALID,
    401: Exit.AUTH,
    403: Exit.AUTH,
    404: Exit.NOT_FOUND,
    409: Exit.INVALID,
    413: Exit.INVALID,
    422: Exit.INVALID,
}
_OVER_BUDGET = "over_budget"
"""A 403 that no other key of the project would change."""
_MENDS = {
    401: "Set TRAINYARD_API_KEY, or TRAINYARD_CONFIG to the file that holds the key of this service.",
}


def unreachable(url: str, error: Exception) -> CommandError:
    """The service does not answer: say where it was looked for and what to type."""
    return CommandError(
        f"The service at {url} does not answer ({error}).",
        Exit.UNREACHABLE,
        "`trainyard up` starts it here; TRAINYARD_URL points to another one.",
    )


def refusal(response: httpx.Response) -> CommandError:
    """The error envelope of an answer as a message: the sentence, then each fault on its own line."""
    code = _EXITS.get(response.status_code, Exit.UNEXPECTED)
    body = response.json() if response.headers.get("content-type", "").startswith("application/json") else {}
    error = body.get("error")
    if not isinstance(error, dict):
        return CommandError(f"{response.request.url} answered {response.status_code}: {response.text[:500]}", code)
    if error.get("code") == _OVER_BUDGET:
        code = Exit.INVALID
    lines = [str(error.get("message"))]
    faults = error.get("errors") or []
    lines += ["  " + _fault_line(fault) for fault in faults[:_LISTED_FAULTS]]
    if len(faults) > _LISTED_FAULTS:
        lines.append(f"  and {len(faults) - _LISTED_FAULTS} more")
    if code is Exit.UNEXPECTED:
        lines.append(f"  {response.status_code}, request {response.headers.get('x-request-id', 'without an id')}")
    return CommandError("\n".join(lines), code, _MENDS.get(response.status_code))


def _fault_line(fault: dict[str, Any]) -> str:
    place = ":".join(str(fault[part]) for part in ("line", "column") if fault.get(part) is not None)
    told = sentence(fault.get("path"), fault.get("message") or fault["code"], fault.get("hint"))
    return f"{place}: {told}" if place else told


class Client:
    """One connection to one service under one key."""

    def __init__(self, url: str | None = None, key: str | None = None, answer_s: float | None = None) -> None:
        """`answer_s` is for who cannot wait: how long each answer may take."""
        self.url = url or service_url()
        self.http = httpx.Client(
            base_url=f"{self.url}/v1/",
            headers={"Authorization": f"Bearer {key or api_key()}"},
            timeout=_TIMEOUT if answer_s is None else answer_s,
            trust_env=False,
        )
        command = click.get_current_context(silent=True)
        if command is not None:
            command.call_on_close(self.http.close)

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """The answer of one request.

        Raises:
            CommandError: the service is unreachable or refused the request.
        """
        try:
            response = self.http.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error
        if response.is_error:
            raise refusal(response)
        return response

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """The JSON at a path; parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        return self.request("GET", path, params=given).json()

    def post(self, path: str, body: Any = None) -> dict[str, Any]:
        return self.request("POST", path, json=body).json()

    def delete(self, path: str) -> dict[str, Any]:
        return self.request("DELETE", path).json()

    def pages(self, path: str, limit: int | None = None, **params: Any) -> Iterator[dict[str, Any]]:
        """Every object of a list, page by page, at most `limit`."""
        largest = _SERIES_ROWS if path.endswith(("/events", "/metrics")) else _PAGE_ROWS
        left = limit
        after = None
        while left is None or left > 0:
            rows = largest if left is None else min(left, largest)
            page = self.get(path, limit=rows, after=after, **params)
            yield from page["data"]
            if not page.get("has_more") or not page["data"]:
                return
            after = page["last_id"]
            left = None if left is None else left - len(page["data"])

    def whole_id(self, noun: str, given: str, *, fewest: int = 1) -> str:
        """The id that `given` is the only prefix of; the noun in front may be left out.

        `fewest` characters must follow the noun: what cannot be undone asks for more than what only looks.

        Raises:
            CommandError: no object, or more than one, begins like that, or `given` is too short.
        """
        wanted = given if given.startswith(f"{noun}-") else f"{noun}-{given}"
        begun = len(wanted) - len(noun) - 1
        if begun == _ID_CHARACTERS:
            return wanted
        listing = f"`trainyard {place_of(noun)} ls`"
        if begun < fewest:
            raise CommandError(
                f"{given!r} is too short to tell which {noun} is meant: give at least {fewest} "
                f"{'character' if fewest == 1 else 'characters'} of its id.",
                Exit.USAGE,
                listing,
            )
        found = [row["id"] for row in self.beginning(noun, wanted, _AMBIGUOUS_SHOWN + 1)]
        if not found:
            raise CommandError(f"No {noun} begins with {wanted!r}.", Exit.NOT_FOUND, listing)
        if len(found) > 1:
            shown = ", ".join(found[:_AMBIGUOUS_SHOWN]) + (" ..." if len(found) > _AMBIGUOUS_SHOWN else "")
            raise CommandError(f"More than one {noun} begins with {wanted!r}: {shown}", Exit.USAGE, listing)
        return found[0]

    def beginning(self, noun: str, prefix: str, limit: int) -> list[dict[str, Any]]:
        """The newest objects whose ids begin so. One page tells: ids are listed downwards, and these lie together."""
        begun = prefix.removeprefix(f"{noun}-") if prefix.startswith(f"{noun}-") else ""
        if not begun.isalnum() and begun:
            return []
        after = f"{noun}-{begun}{'z' * _ID_CHARACTERS}"
        rows = self.get(place_of(noun), after=after, limit=limit)["data"]
        return [row for row in rows if row.get("artifact_id", row["id"]).startswith(prefix)]


def place_of(noun: str) -> str:
    """The collection that a noun is listed in: jobs, checkpoints."""
    return _PLACES.get(noun, f"{noun}s")
