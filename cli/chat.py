"""`trainyard chat`: talk with a model, or with an adapter and its base; each answer names the weights that gave it."""

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
"""An engine that starts with the first question takes its time."""
_AS_IF = "the conversation goes on as if this had not been asked"
_LASTING = frozenset({Exit.AUTH, Exit.NOT_FOUND})
"""Refusals that the next line would meet as well."""
Message = dict[str, str]


@click.command()
@click.argument("words", nargs=-1, metavar="[MODEL] [MESSAGE]", shell_complete=WEIGHTS)
@click.option(
    "--adapter", metavar="NAME", help="An adapter answers, over its base; MODEL is left out.", shell_complete=ADAPTER
)
@click.option("--compare-base", is_flag=True, help="The base of the adapter answers too, after it.")
@click.option("--temperature", type=float, help="0 takes the likeliest token each time; 1 if not given.")
@click.option("--max-tokens", type=int, help="Tokens of an answer; as many as there is room for if not given.")
@click.option("--seed", type=int, help="The same seed draws the same answer.")
@click.option(
    "--num-beams", type=int, help="Search for the likeliest answer with so many at a time, instead of drawing."
)
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON, once an answer is whole.")
@click.option("--jsonl", is_flag=True, help="Print the API's stream, one JSON object a line.")
def chat(
    words: tuple[str, ...], adapter: str | None, compare_base: bool, as_json: bool, jsonl: bool, **options: Any
) -> None:
    """Talk with a model, adapter or checkpoint.

    MESSAGE, or what stdin holds if it is no terminal, has one answer. Without either, lines are read
    and answered: an empty one or Ctrl-D ends, Ctrl-C stops an answer.
    """
    if not words and adapter is None:
        raise click.UsageError("Give a model, or an adapter with --adapter: `trainyard models ls`, `adapters ls`.")
    if compare_base and adapter is None:
        raise click.UsageError("--compare-base needs --adapter: a model by itself has no base.")
    if as_json and jsonl:
        raise click.UsageError("An answer is printed whole with --json, or as it comes with --jsonl.")
    model, message = _told(words, adapter)
    temperature = options["temperature"]
    if temperature is not None and not math.isfinite(temperature):
        raise click.BadParameter(f"{temperature} is no temperature.", param_hint="--temperature")
    if message is None and not sys.stdin.isatty():
        message = _sound(sys.stdin.buffer.read().decode(errors="surrogateescape").strip())
    client = Client()
    model = client.whole(model) if adapter is None else find(client, "adapter", adapter)["reference"]
    given = {name: value for name, value in options.items() if value is not None}
    talk = Talk(client, model, given, compare_base=compare_base, as_json=as_json, as_jsonl=jsonl)
    if message is not None:
        talk.turn(message)
    else:
        _converse(talk)


def _told(words: tuple[str, ...], adapter: str | None) -> tuple[str, str | None]:
    """Who is asked, and what, as far as the command line says it."""
    model, *message = words if adapter is None else (adapter, *words)
    if len(message) > 1:
        raise click.UsageError("Too many words: quote the message, and leave MODEL out beside --adapter.")
    return model, _sound(message[0]) if message else None


def _sound(message: str) -> str:
    if not message.strip():
        raise click.UsageError("The message is empty.")
    try:
        message.encode()
    except UnicodeEncodeError as error:
        raise click.UsageError(f"The message is not UTF-8: character {error.start + 1}.") from error
    return message


def _converse(talk: "Talk") -> None:
    """Answer line by line.

    Raises:
        CommandError: the key is refused, or what is asked is gone.
    """
    say(f"{talk.model}: an empty line or Ctrl-D ends, Ctrl-C stops an answer")
    while message := _typed():
        try:
            talk.turn(_sound(message))
        except KeyboardInterrupt:
            say(f"\n  stopped; {_AS_IF}")
        except click.UsageError as unsound:
            say(f"\n  {unsound.message}\n  {_AS_IF}")
        except CommandError as refused:
            if refused.code in _LASTING:
                raise
            # A busy service or a line too long costs nobody the conversation.
            say("\n  " + "\n  ".join(filter(None, (refused.message, refused.mend, _AS_IF))))


def _typed() -> str:
    """The next line; nothing at Ctrl-D."""
    try:
        return input("> " if sys.stdout.isatty() else "").strip()
    except EOFError:
        say("")
        return ""


@dataclass
class Talk:
    """A conversation with a model, and the same with its base if the two are compared."""

    client: Client
    model: str
    options: dict[str, Any]
    compare_base: bool
    as_json: bool
    as_jsonl: bool
    turns: tuple[list[Message], list[Message]] = field(default_factory=lambda: ([], []))
    """The model's and the base's: each goes on from answers of its own."""

    def turn(self, message: str) -> None:
        """Have a message answered; it belongs to the conversation when all have answered."""
        asked = {"role": "user", "content": message}
        answers = list(self._answers(asked))
        if self.as_json:
            print_json(answers if self.compare_base else answers[0])
        for turns, answer in zip(self.turns, answers, strict=False):
            turns += [asked, {"role": "assistant", "content": answer["choices"][0]["message"]["content"]}]
        # A version that is published meanwhile does not take over.
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
            return _shown(self.client, body | {"stream": True}, headed=self.compare_base, as_jsonl=self.as_jsonl)
        answer = self.client.ask("POST", _ADDRESS, json=body, timeout=_TIMEOUT)
        _tell(answer["weights"])
        return answer


def _shown(client: Client, body: dict[str, Any], *, headed: bool, as_jsonl: bool) -> dict[str, Any]:
    """Write an answer as it comes; its weights and its text, where a whole answer has them.

    Raises:
        CommandError: the service refused, could not end the answer, or went away.
    """
    weights, text = None, ""
    try:
        with closing(records(client, "POST", _ADDRESS, json=body, timeout=_TIMEOUT)) as pieces:
            for piece in pieces:
                if "error" in piece:
                    raise CommandError(f"The answer broke off: {piece['error']['message']}")
                if weights is None:
                    weights = piece["weights"]
                    _tell(weights, headed=headed and not as_jsonl)
                said = piece["choices"][0]["delta"]["content"]
                if as_jsonl:
                    print_jsonl([piece])
                else:
                    click.echo(legible(said) if sys.stdout.isatty() else said, nl=False)
                text += said
    except httpx.HTTPError as error:
        raise failure(client, error) from error
    if not as_jsonl:
        click.echo()
    return {"weights": weights, "choices": [{"message": {"content": text}}]}


def _tell(weights: dict[str, Any], *, headed: bool = False) -> None:
    """Which weights answer: on stderr, but above each of two answers on stdout, which have to be told apart."""
    told = f"{weights['reference']}  {weights['digest']}"
    if headed:
        click.secho(told, bold=True)
    else:
        say(told, bold=True)
