"""A client of the API for the commands: errors with exit codes, cursor pagination, ids by unique prefix."""

import os
import re
import ssl
from collections.abc import Iterator
from typing import Any

import click
import httpx

from cli.errors import CommandError, Exit
from cli.output import counted, sentence
from cli.place import api_key, service_url

_PAGE_ROWS = 100
_SERIES_ROWS = 1000
_ID_CHARACTERS = 26
"""The length of an id after its noun and dash; the alphabet ends with z."""
_ID_BEGINNING = re.compile(f"[0-9a-z]{{1,{_ID_CHARACTERS}}}")
_PLACES = {"ckpt": "checkpoints"}
"""Collections that are not the plural of their noun."""
_WEIGHTS = frozenset({"model", "adapter", "ckpt"})
"""The nouns of weights, which can be queried, evaluated and exported."""
AMBIGUOUS_SHOWN = 5
DESTRUCTIVE_FEWEST = 4
"""The fewest characters of an id that `rm`, `cancel` and `revoke` accept."""
_LISTED_FAULTS = 20
_SHOWN_CHARACTERS = 500
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
"""The code of a 403 that another key of the project would get too."""
_MENDS = {
    401: "Set TRAINYARD_API_KEY, or TRAINYARD_CONFIG to the file that holds the key of this service.",
}
_ADDRESS_MEND = "Is it the service's own address? TRAINYARD_URL names another."


def unreachable(url: str, error: Exception) -> CommandError:
    """Return the error for a service that does not answer, naming its address and what to type."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return CommandError(
            f"The certificate of {url} is not trusted ({error}).",
            Exit.UNREACHABLE,
            "Set SSL_CERT_FILE to the certificate, in PEM, of the authority that signed it.",
        )
    return CommandError(
        f"The service at {url} does not answer ({error}).",
        Exit.UNREACHABLE,
        "`trainyard up` starts it here; TRAINYARD_URL points to another one.",
    )


def refusal(response: httpx.Response) -> CommandError:
    """Turn the error envelope of a response into an error: its message, then each fault on its own line."""
    code = _EXITS.get(response.status_code, Exit.UNEXPECTED)
    error = (_object_of(response) or {}).get("error")
    if not isinstance(error, dict):
        return _foreign(response, code)
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


def _object_of(response: httpx.Response) -> dict[str, Any] | None:
    """Return the JSON object in a response, or None if it is something else."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _foreign(response: httpx.Response, code: Exit) -> CommandError:
    """Return the error for a response that is not Trainyard's: from a proxy, or from another server."""
    if response.has_redirect_location:
        detail = f" and redirects to {response.headers['location']}"
    else:
        detail = f", which is not an answer of Trainyard: {response.text[:_SHOWN_CHARACTERS]}"
    return CommandError(f"{response.request.url} answered {response.status_code}{detail}", code, _ADDRESS_MEND)


def _fault_line(fault: dict[str, Any]) -> str:
    place = ":".join(str(fault[part]) for part in ("line", "column") if fault.get(part) is not None)
    text = sentence(fault.get("path"), fault.get("message") or fault["code"], fault.get("hint"))
    return f"{place}: {text}" if place else text


class Client:
    """A connection to one service with one key."""

    def __init__(self, url: str | None = None, key: str | None = None, answer_s: float | None = None) -> None:
        """Connect to the service at `url` with `key`, by default those of the environment or of the local service.

        `answer_s` limits the time of each answer, for callers that cannot wait.

        Raises:
            CommandError: there is no key, or the address or SSL_CERT_FILE is wrong.
        """
        self.url = url or service_url()
        try:
            self.http = httpx.Client(
                base_url=f"{self.url}/v1/",
                headers={"Authorization": f"Bearer {key or api_key()}"},
                timeout=_TIMEOUT if answer_s is None else answer_s,
                verify=_trusted(self.url),
                trust_env=False,
            )
        except httpx.InvalidURL as error:
            raise CommandError(
                f"{self.url} is not an address ({error}).",
                Exit.USAGE,
                "Set TRAINYARD_URL, for example to http://127.0.0.1:8642.",
            ) from error
        command = click.get_current_context(silent=True)
        if command is not None:
            command.call_on_close(self.http.close)

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request and return the response.

        Raises:
            CommandError: the service is unreachable or refused the request, or the path cannot be part of an address.
        """
        try:
            response = self.http.request(method, path, **arguments)
        except httpx.RequestError as error:
            raise unreachable(self.url, error) from error
        except httpx.InvalidURL as error:
            raise CommandError(f"{path!r} cannot be part of an address ({error}).", Exit.USAGE) from error
        if not response.is_success:
            raise refusal(response)
        return response

    def ask(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the JSON object of the response.

        Raises:
            CommandError: the service is unreachable or refused the request, or another server answers.
        """
        response = self.request(method, path, **arguments)
        body = _object_of(response)
        if body is None:
            raise _foreign(response, Exit.UNEXPECTED)
        return body

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Return the JSON at a path; parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        return self.ask("GET", path, params=given)

    def post(self, path: str, body: Any = None) -> dict[str, Any]:
        return self.ask("POST", path, json=body)

    def delete(self, path: str) -> dict[str, Any]:
        return self.ask("DELETE", path)

    def pages(self, path: str, limit: int | None = None, **params: Any) -> Iterator[dict[str, Any]]:
        """Yield the objects of a list, page by page, at most `limit` of them."""
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
        """Return the only id that begins with `given`; the noun in front may be left out.

        `fewest` characters must follow the noun; commands that cannot be undone require more of them.

        Raises:
            CommandError: no id or more than one begins with `given`, or `given` is too short.
        """
        wanted = given if given.startswith(f"{noun}-") else f"{noun}-{given}"
        characters = len(wanted) - len(noun) - 1
        if characters == _ID_CHARACTERS:
            return wanted
        listing = f"`trainyard {place_of(noun)} ls`"
        if characters < fewest:
            raise CommandError(
                f"{given!r} is too short for the id of a {noun}: give at least "
                f"{counted(fewest, 'character')} of its id.",
                Exit.USAGE,
                listing,
            )
        found = [row["id"] for row in self.beginning(noun, wanted, AMBIGUOUS_SHOWN + 1)]
        if not found:
            raise CommandError(f"No {noun} begins with {wanted!r}.", Exit.NOT_FOUND, listing)
        if len(found) > 1:
            raise ambiguous(noun, wanted, found)
        return found[0]

    def beginning(self, noun: str, prefix: str, limit: int) -> list[dict[str, Any]]:
        """Return the newest objects whose ids begin with `prefix`. One page is enough: lists are sorted by id, descending."""
        begin = prefix.removeprefix(f"{noun}-") if prefix.startswith(f"{noun}-") else ""
        if begin and not _ID_BEGINNING.fullmatch(begin):
            return []
        after = f"{noun}-{begin}{'z' * _ID_CHARACTERS}"
        rows = self.get(place_of(noun), after=after, limit=limit)["data"]
        return [row for row in rows if row.get("artifact_id", row["id"]).startswith(prefix)]

    def whole(self, reference: str) -> str:
        """Return a reference to weights as the service knows it: a unique prefix of an id is completed."""
        noun, _, begin = reference.partition("-")
        if noun not in _WEIGHTS or not begin.isalnum() or len(begin) == _ID_CHARACTERS:
            return reference
        found = self.beginning(noun, reference, 2)
        return found[0].get("artifact_id", found[0]["id"]) if len(found) == 1 else reference


def ambiguous(noun: str, prefix: str, found: list[str]) -> CommandError:
    """Return the error for a prefix of several ids."""
    shown = ", ".join(found[:AMBIGUOUS_SHOWN]) + (" ..." if len(found) > AMBIGUOUS_SHOWN else "")
    listing = f"`trainyard {place_of(noun)} ls`"
    return CommandError(f"More than one {noun} begins with {prefix!r}: {shown}", Exit.USAGE, listing)


def _trusted(url: str) -> ssl.SSLContext | bool:
    """Return the trusted certificates: those of SSL_CERT_FILE or SSL_CERT_DIR, or the public authorities'.

    Raises:
        CommandError: SSL_CERT_FILE holds no certificates.
    """
    if not url.startswith("https:"):
        return True
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        message = f"SSL_CERT_FILE={os.environ.get('SSL_CERT_FILE')} cannot be read ({error})."
        raise CommandError(message, Exit.USAGE, "Set it to a file of certificates in PEM.") from error


def place_of(noun: str) -> str:
    """Return the collection of a noun, such as jobs or checkpoints."""
    return _PLACES.get(noun, f"{noun}s")
