"""Loss falls on the answer and on the token that ends it, and on nothing else."""

import json
from typing import Any

import pytest
from tokenizers import processors

from engine.data.answers import closing_token
from engine.data.corpus import batch_of
from engine.data.pairs import pair_corpus
from engine.data.source import SourceRow
from engine.errors import DataError
from engine.generation.writer import Decoding, Writer, end_tokens
from engine.model.load import Subject, load_tokenizer
from tests import runs
from tests.runs import chat_corpus

CHATML = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
GENERATION_WITHOUT_END = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '<|end|>\n' }}{% endfor %}"
)
BARE = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
# A new answer begins with a thought that is not rendered of an answer given, as in DeepSeek-R1's distillates.
THOUGHTLESS = (
    "{% for m in messages %}{% set said = m['content'].split('</think>')[-1] | trim %}"
    "{{ '<|' + m['role'] + '|>' + said + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
)
# An answer that comes last has a thought, an empty one where there is none, as with Qwen3.
THINKING = (
    "{% for m in messages %}{% set parts = m['content'].split('</think>') %}{{ '<|' + m['role'] + '|>\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n' + "
    "(parts[0] | replace('<think>', '') | trim if parts | length > 1 else '') + '\n</think>\n\n' }}{% endif %}"
    "{{ parts[-1] | trim + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
# The same, where a new answer begins with the thought's mark, as with Qwen3's thinking models.
THINKS_FIRST = THINKING.replace("{{ '<|assistant|>\n' }}", "{{ '<|assistant|>\n<think>\n' }}")
# The system's text stands in the last question alone, as with Mistral.
SYSTEM_LAST = (
    "{% set system = messages[0]['content'] + ' ' if messages[0]['role'] == 'system' else '' %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set last = messages[loop.index0 + 2:] | length == 0 %}"
    "{{ '[' + (system if last else '') + m['content'] + ']' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
LAST_TURNS_ALONE = (
    "{% for m in messages[-2:] %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
GENERATION_WITH_LINE_END = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|end|>\n' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|end|>\n' }}{% endif %}{% endfor %}"
)
SPACED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' ' + eos_token }}"
    "{% else %}{{ '[' + m['content'] + ']' }}{% endif %}{% endfor %}"
)
PARAGRAPHS = "{% for m in messages %}{{ m['content'] + '\n\n' }}{% endfor %}"
TEMPLATES = {
    "ours": None,
    "no generation block": CHATML,
    "generation without end token": GENERATION_WITHOUT_END,
    "generation with the line's end": GENERATION_WITH_LINE_END,
}
TALK = [
    {"role": "system", "content": "the red house"},
    {"role": "user", "content": "the cat sees"},
    {"role": "assistant", "content": "a dog here"},
    {"role": "user", "content": "and now"},
    {"role": "assistant", "content": "the tree there"},
]


def trained_text(messages, template=None, max_length: int = 256, added: tuple[str, ...] = ()) -> str:
    """What the labels of a row spell."""
    tokenizer = runs.tokenizer()
    tokenizer.add_tokens(list(added))
    if template is not None:
        tokenizer.chat_template = template
    rows = [SourceRow(1, messages)]
    corpus = chat_corpus(rows, tokenizer, max_length=max_length, long_rows="truncate").corpus
    return str(tokenizer.decode(batch_of(corpus, [0]).labels_N.tolist()))


@pytest.mark.parametrize("name", TEMPLATES)
def test_only_the_answers_are_trained(name):
    text = trained_text(TALK, TEMPLATES[name]).replace("<|endoftext|>", "|").replace("<|end|>", "|").replace("\n", "")
    assert text == "a dog here|the tree there|"


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_token_that_ends_the_answer_is_trained(name):
    assert trained_text(TALK, TEMPLATES[name]).rstrip("\n").endswith(("<|endoftext|>", "<|end|>"))


def test_an_answer_that_the_template_leaves_open_is_closed_with_eos():
    assert trained_text(TALK[1:3], BARE).endswith("<|endoftext|>")


def test_a_mask_by_token_id_would_lose_the_end_where_padding_is_eos():
    tokenizer = runs.tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    corpus = chat_corpus([SourceRow(1, TALK)], tokenizer, max_length=256, long_rows="truncate").corpus
    labels = batch_of(corpus, [0]).labels_N
    by_id = labels[labels != tokenizer.pad_token_id]
    assert tokenizer.eos_token_id in labels
    assert tokenizer.eos_token_id not in by_id


def test_a_loss_on_every_token_would_train_the_prompt():
    tokenizer = runs.tokenizer()
    corpus = chat_corpus([SourceRow(1, TALK)], tokenizer, max_length=256, long_rows="truncate").corpus
    everything = str(tokenizer.decode(corpus.ids.tolist()))
    assert "the cat sees" in everything
    assert "the cat sees" not in trained_text(TALK)


def said(*texts: str) -> list[dict]:
    """Turns of user and assistant, the user's first."""
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_end_is_trained_behind_an_answer_that_ends_in_an_added_token(name):
    talk = said("the cat sees", "a dog</call>", "and now", "the tree</call>")
    text = trained_text(talk, TEMPLATES[name], added=("</call>",)).replace("<|endoftext|>", "|").replace("<|end|>", "|")
    assert text.replace("\n", "") == "a dog</call>|the tree</call>|"


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_conversation_may_begin_with_the_assistant(name):
    text = trained_text(said("", "hello there", "the cat sees", "a dog")[1:], TEMPLATES[name])
    assert text.replace("<|endoftext|>", "|").replace("<|end|>", "|").replace("\n", "") == "hello there|a dog|"


def test_a_greeting_may_be_left_untrained():
    greeted = [{"role": "assistant", "content": "hello there", "weight": 0}, *said("the cat sees", "a dog")]
    assert trained_text(greeted) == "a dog<|endoftext|>"


def test_an_answer_is_found_in_its_place_where_its_generation_prompt_is_not_written_before_it():
    assert trained_text(said("a cat or a dog", "a dog", "a dog now", "now"), THOUGHTLESS) == "a dog<|end|>now<|end|>"


def test_a_thought_of_the_last_answer_is_not_left_out_in_silence():
    earlier = said("the cat", "<think>here</think>a dog", "and now", "a tree")
    assert trained_text(earlier, THOUGHTLESS) == "a dog<|end|>a tree<|end|>"
    for content in ("<think>here</think>a dog", "<think>here</think>"):
        with pytest.raises(DataError, match="does not write message 2, an answer, whole"):
            trained_text(said("the cat", content), THOUGHTLESS)


def test_an_answer_that_is_how_the_template_begins_a_thought_is_found_behind_it():
    assert trained_text(said("is it less", "<"), THINKING) == "<think>\n\n</think>\n\n<<|end|>"


def test_the_end_is_trained_behind_the_template_s_own_white_space():
    text = trained_text(said("the cat", "a dog", "and now", "a tree"), SPACED)
    assert text == " a dog <|endoftext|> a tree <|endoftext|>"


def test_white_space_closes_no_answer_though_it_is_an_added_token():
    assert trained_text(said("the cat", "a dog"), PARAGRAPHS, added=("\n\n",)) == "a dog<|endoftext|>"


def test_what_the_template_writes_of_a_thought_is_trained():
    talk = said("the cat", "<think>here</think>a dog", "and now", "<think>there</think>a tree")
    assert trained_text(talk, THINKING) == "a dog<|end|><think>\nthere\n</think>\n\na tree<|end|>"
    assert trained_text(said("the cat", "a dog"), THINKING) == "<think>\n\n</think>\n\na dog<|end|>"


def test_a_thought_whose_mark_the_generation_prompt_writes_is_part_of_a_whole_answer():
    assert THINKS_FIRST != THINKING
    told = trained_text(said("the cat", "<think>\nhere\n</think>\n\na dog"), THINKS_FIRST)
    assert told == "here\n</think>\n\na dog<|end|>"
    alone = [{"role": "assistant", "content": "<think>here</think>a dog"}]
    assert trained_text(alone, THINKING).endswith("a dog<|end|>")


def test_white_space_behind_an_added_token_of_the_answer_is_trained_with_the_end():
    talk = said("the cat", "a dog</call>\n")
    assert trained_text(talk, GENERATION_WITHOUT_END, added=("</call>",)) == "a dog</call>\n<|end|>"


def test_an_answer_is_found_where_the_system_s_text_stands_in_a_later_question():
    talk = [{"role": "system", "content": "yes or no"}, *said("is it yes", "yes", "is it no", "no")]
    assert trained_text(talk, SYSTEM_LAST) == "yes<|endoftext|>no<|endoftext|>"


def test_the_end_is_trained_behind_an_answer_that_ends_in_white_space():
    assert trained_text(said("the cat", "a dog\n", "and now", "a tree \n"), CHATML) == "a dog\n<|end|>a tree \n<|end|>"


SPACES = {
    "no generation block": (CHATML, said("the cat", "a dog   \n\n  here"), "a dog   \n\n  here<|end|>"),
    "a space begins the answer": (GENERATION_WITHOUT_END, said("the cat", "  a dog"), "  a dog<|end|>"),
    "a space ends the answer": (
        GENERATION_WITHOUT_END,
        said("the cat", "a dog  ", "and now", "a tree"),
        "a dog  <|end|>a tree<|end|>",
    ),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", SPACES)
def test_spaces_of_an_answer_are_trained_though_the_tokenizer_s_files_trim_its_offsets(tmp_path, name, nested):
    template, talk, answers = SPACES[name]
    tokenizer = runs.tokenizer()
    trims: Any = processors.ByteLevel(trim_offsets=True)
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([trims]) if nested else trims
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded("a  b \n ")["input_ids"] == tokenizer("a  b \n ")["input_ids"]
    corpus = chat_corpus([SourceRow(1, talk)], loaded, max_length=256, long_rows="truncate").corpus
    assert loaded.decode(batch_of(corpus, [0]).labels_N.tolist()) == answers


def test_spaces_of_both_answers_of_a_pair_are_trained_though_offsets_are_trimmed(tmp_path):
    tokenizer = runs.tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)  # type: ignore[assignment]
    tokenizer.save_pretrained(tmp_path)
    pair: Any = {"prompt": [{"role": "user", "content": "the cat"}]}
    pair |= {"chosen": [{"role": "assistant", "content": " a  dog "}]}
    pair |= {"rejected": [{"role": "assistant", "content": "a   tree"}]}
    loaded = load_tokenizer(tmp_path)
    corpus = pair_corpus([SourceRow(1, pair)], loaded, max_length=256, long_rows="drop").corpus
    spelled = [loaded.decode(document.ids[document.trained].tolist()) for document in corpus.documents()]
    assert spelled == [" a  dog <|endoftext|>", "a   tree<|endoftext|>"]


def test_an_answer_that_the_template_leaves_out_is_refused_unless_it_is_untrained():
    talk = said("the cat", "a dog", "and now", "a tree")
    with pytest.raises(DataError, match="line 1: the model's chat template does not write message 2"):
        trained_text(talk, LAST_TURNS_ALONE)
    talk[1]["weight"] = 0
    assert trained_text(talk, LAST_TURNS_ALONE) == "a tree<|end|>"


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (None, "<|endoftext|>"),
        (CHATML, "<|end|>"),
        (GENERATION_WITH_LINE_END, "<|end|>"),
        (BARE, "<|endoftext|>"),
    ],
)
def test_an_answer_is_written_up_to_the_token_that_training_teaches_to_end_it(template, end):
    tokenizer = runs.tokenizer()
    if template is not None:
        tokenizer.chat_template = template
    assert closing_token(tokenizer) == tokenizer.convert_tokens_to_ids(end)


def test_of_several_templates_none_of_which_goes_first_nothing_is_known_of_the_end():
    tokenizer = runs.tokenizer()
    tokenizer.chat_template = {"tools": CHATML, "plain": CHATML}
    assert closing_token(tokenizer) is None


def test_a_tuned_model_ends_its_answers_as_its_template_does_here_and_elsewhere(tmp_path):
    root = runs.sft_run(tmp_path / "run", spec=runs.sft_spec(max_steps=1) | {"tuning": {"method": "full"}})
    tokenizer = load_tokenizer(root / "model")
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(root / "model")
    assert runs.carry_out(root) == 0
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|end|>")}
    assert len(ends) == 2
    assert set(json.loads((root / "output" / "generation_config.json").read_text())["eos_token_id"]) == ends
    with runs.opened(root) as session:
        assert end_tokens(session.subject.model, session.subject.tokenizer) == ends


def test_what_ends_an_answer_is_no_part_of_it_though_it_is_no_special_token():
    tokenizer = runs.tokenizer()
    tokenizer.add_tokens(["</turn>"])
    tokenizer.chat_template = CHATML.replace("<|end|>", "</turn>")
    writer = Writer(Subject(runs.model(vocab_size=len(tokenizer)), tokenizer, "model"), Decoding(8), 0)
    for token in tokenizer("a dog</turn>", add_special_tokens=False)["input_ids"]:
        writer.take(token, None)
    assert (writer.finished, writer.answer().text) == (True, "a dog")
