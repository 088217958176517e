"""The command `trainyard chat`: ask a model, or an adapter and its base; each answer names the weights behind it."""

import math
import readline  # noqa: F401 - lets `input` edit a line and recall the ones before
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import click
import httpx

from cli.artifacts import find
from cli.client import Client
from cli.completion import ADAPTER, WEIGHTS
from cli.errors import CommandError, Exit
from cli.output import legible, print_json, print_jsonl, say
from cli.stream import failure, records

_ADDRESS = "chat/completions"
_TIMEOUT = httpx.Timeout(5, read=None)
"""No limit on reading: the engine may only start with the first question."""
_FORGOTTEN = "the conversation goes on as if this had not been asked"
_LASTING = frozenset({Exit.AUTH, Exit.NOT_FOUND})
"""Exit codes of refusals that the next line would meet as well."""
Message = dict[str, str]


@click.command(short_help="Ask a model, adapter or checkpoint.")
@click.argument("words", nargs=-1, metavar="[MODEL] [MESSAGE]", shell_complete=WEIGHTS)
@click.option(
    "--adapter", metavar="NAME", help="Ask an adapter over its base; leave MODEL out.", shell_complete=ADAPTER
)
@click.option("--compare-base", is_flag=True, help="Ask the adapter's base too, after the adapter.")
@click.option("--temperature", type=float, help="0: always the likeliest token; default: 1.")
@click.option("--max-tokens", type=int, help="Most tokens of an answer; default: as many as fit.")
@click.option("--seed", type=int, help="Seed for sampling the answer.")
@click.option("--num-beams", type=int, help="Beam search with this many beams instead of sampling.")
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON when the answer is complete.")
@click.option("--jsonl", is_flag=True, help="Print the API's stream, one JSON object a line.")
def chat(
    words: tuple[str, ...], adapter: str | None, compare_base: bool, as_json: bool, jsonl: bool, **options: Any
) -> None:
    """Ask a model, adapter or checkpoint.

    MESSAGE, or stdin if it is not a terminal, gets one answer. Without either, a conversation starts: each
    line is answered, an empty line or Ctrl-D ends it, Ctrl-C stops an answer.
    """
    if not words and adapter is None:
        raise click.UsageError("Give a model, or an adapter with --adapter: `trainyard models ls`, `adapters ls`.")
    if compare_base and adapter is None:
        raise click.UsageError("--compare-base needs --adapter: a model by itself has no base.")
    if as_json and jsonl:
        raise click.UsageError("An answer is printed whole with --json, or as it comes with --jsonl.")
    model, message = _model_and_message(words, adapter)
    temperature = options["temperature"]
    if temperature is not None and not math.isfinite(temperature):
        raise click.BadParameter(f"{temperature} is not a finite number.", param_hint="--temperature")
    if message is None and not sys.stdin.isatty():
        message = _checked(sys.stdin.buffer.read().decode(errors="surrogateescape").strip())
    client = Client()
    model = client.whole(model) if adapter is None else find(client, "adapter", adapter)["reference"]
    given = {name: value for name, value in options.items() if value is not None}
    conversation = Conversation(client, model, given, compare_base=compare_base, as_json=as_json, as_jsonl=jsonl)
    if message is not None:
        conversation.turn(message)
    else:
        _converse(conversation)


def _model_and_message(words: tuple[str, ...], adapter: str | None) -> tuple[str, str | None]:
    """Return the model and, if the command line has one, the message."""
    model, *message = words if adapter is None else (adapter, *words)
    if len(message) > 1:
        raise click.UsageError("Too many words: quote the message, and leave MODEL out beside --adapter.")
    return model, _checked(message[0]) if message else None


def _checked(message: str) -> str:
    if not message.strip():
        raise click.UsageError("The message is empty.")
    try:
        message.encode()
    except UnicodeEncodeError as error:
        raise click.UsageError(f"The message is not UTF-8: character {error.start + 1}.") from error
    return message


def _converse(conversation: "Conversation") -> None:
    """Answer line by line.

    Raises:
        CommandError: the key is refused, or the model has been deleted.
    """
    say(f"{conversation.model}: an empty line or Ctrl-D ends, Ctrl-C stops an answer")
    while message := _typed():
        try:
            conversation.turn(_checked(message))
        except KeyboardInterrupt:
            say(f"\n  stopped; {_FORGOTTEN}")
        except click.UsageError as error:
            say(f"\n  {error.message}\n  {_FORGOTTEN}")
        except CommandError as refused:
            if refused.code in _LASTING:
                raise
            # A busy service or a line that is too long does not end the conversation.
            say("\n  " + "\n  ".join(filter(None, (refused.message, refused.mend, _FORGOTTEN))))


def _typed() -> str:
    """Return the next line, or an empty string at Ctrl-D."""
    try:
        return input("> " if sys.stdout.isatty() else "").strip()
    except EOFError:
        say("")
        return ""


@dataclass
class Conversation:
    """A conversation with a model, and a second one with its base if the two are compared."""

    client: Client
    model: str
    options: dict[str, Any]
    compare_base: bool
    as_json: bool
    as_jsonl: bool
    turns: tuple[list[Message], list[Message]] = field(default_factory=lambda: ([], []))
    """The messages with the model and those with its base: each continues from its own answers."""

    def turn(self, message: str) -> None:
        """Get a message answered; it joins the conversation only when every model has answered."""
        asked = {"role": "user", "content": message}
        answers = list(self._answers(asked))
        if self.as_json:
            print_json(answers if self.compare_base else answers[0])
        for turns, answer in zip(self.turns, answers, strict=False):
            turns += [asked, {"role": "assistant", "content": answer["choices"][0]["message"]["content"]}]
        # Stay with these weights even if a newer version is published meanwhile.
        self.model = answers[0]["weights"]["id"]

    def _answers(self, asked: Message) -> Iterator[dict[str, Any]]:
        own, bases = self.turns
        answer = self._answer(self.model, [*own, asked])
        yield answer
        if self.compare_base:
            yield self._answer(answer["weights"]["base"]["id"], [*bases, asked])

    def _answer(self, model: str, messages: list[Message]) -> dict[str, Any]:
        body = {"model": model, "messages": messages, **self.options}
        if not self.as_json:
            return _stream(self.client, body | {"stream": True}, headed=self.compare_base, as_jsonl=self.as_jsonl)
        answer = self.client.ask("POST", _ADDRESS, json=body, timeout=_TIMEOUT)
        _show_weights(answer["weights"])
        return answer


def _stream(client: Client, body: dict[str, Any], *, headed: bool, as_jsonl: bool) -> dict[str, Any]:
    """Print an answer as it arrives and return its weights and text in the form of a complete answer.

    Raises:
        CommandError: the service refused, failed within the answer, or went away.
    """
    weights, text = None, ""
    try:
        with closing(records(client, "POST", _ADDRESS, json=body, timeout=_TIMEOUT)) as pieces:
            for piece in pieces:
                if "error" in piece:
                    raise CommandError(f"The answer broke off: {piece['error']['message']}")
                if weights is None:
                    weights = piece["weights"]
                    _show_weights(weights, headed=headed and not as_jsonl)
                content = piece["choices"][0]["delta"]["content"]
                if as_jsonl:
                    print_jsonl([piece])
                else:
                    click.echo(legible(content) if sys.stdout.isatty() else content, nl=False)
                text += content
    except httpx.HTTPError as error:
        raise failure(client, error) from error
    if not as_jsonl:
        click.echo()
    return {"weights": weights, "choices": [{"message": {"content": text}}]}


def _show_weights(weights: dict[str, Any], *, headed: bool = False) -> None:
    """Name the weights that answer: on stderr, or as a heading on stdout where two answers must be distinguished."""
    heading = f"{weights['reference']}  {weights['digest']}"
    if headed:
        click.secho(heading, bold=True)
    else:
        say(heading, bold=True)
