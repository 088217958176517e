"""Samples: the answers of a model in training to fixed prompts. They do not affect the training."""

from contextlib import suppress

from engine.data.answers import prompt_tokens
from engine.generation.generate import generate
from engine.generation.writer import Decoding
from engine.parts import Samples, TrainingSpec
from engine.rows import Message
from engine.session import Session
from engine.stop import StopFlag, StopRequested


def write_samples(session: Session, spec: TrainingSpec, step: int) -> None:
    """Write a `sample` event for every prompt, the same for the same weights, seed and step.

    Raises:
        StopRequested: a stop was requested before the end.
    """
    asked = spec.samples
    if asked is None:
        return
    room = spec.hyperparameters.max_length - asked.max_new_tokens
    prompts = [_tokens(session, spec, number, prompt)[-room:] for number, prompt in enumerate(asked.prompts)]
    greedy = _answers(session, prompts, Decoding(asked.max_new_tokens))
    sampled: list[str] | list[None] = [None] * len(prompts)
    if asked.temperature:
        sampled = _answers(session, prompts, _drawn(asked, spec.seed, step))
    for prompt, likeliest, drawn in zip(asked.prompts, greedy, sampled, strict=True):
        session.journal.write("sample", step=step, prompt=prompt, greedy=likeliest, sampled=drawn)


def _drawn(asked: Samples, seed: int, step: int) -> Decoding:
    return Decoding(asked.max_new_tokens, asked.temperature, seed=(seed, step))


def _tokens(session: Session, spec: TrainingSpec, number: int, prompt: str) -> list[int]:
    tokenizer = session.subject.tokenizer
    if spec.PURPOSE != "pretrain":
        return prompt_tokens([Message(role="user", content=prompt)], f"samples.prompts[{number}]", tokenizer)
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]  # type: ignore[assignment]
    return ids if begin is None else [int(begin), *ids]  # type: ignore[arg-type]


def _answers(session: Session, prompts: list[list[int]], decoding: Decoding) -> list[str]:
    """Have the first rank write the answers: others may round differently and write answers of other lengths.

    Where ranks hold the weights together, the first team writes them.
    """
    ranks, team, stop = session.ranks, session.division.team, session.stop
    if team.count == ranks.count:
        return _written(session, prompts, decoding, stop)
    written, patient = None, ranks.patient()  # answers may take longer than other ranks wait
    if ranks.rank < team.count:
        with suppress(StopRequested):
            written = _written(session, prompts, decoding, stop.among(team.any))
    written = patient.gather(written)[0]
    if written is None:
        raise StopRequested
    return written


def _written(session: Session, prompts: list[list[int]], decoding: Decoding, stop: StopFlag) -> list[str]:
    longest = max(map(len, prompts)) + decoding.max_new_tokens
    rows = max(1, session.token_budget // longest)
    answers = generate(session.subject, prompts, decoding, session.machine, stop, rows_at_once=rows)
    return [answer.text for answer in answers]
