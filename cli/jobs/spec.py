"""Job specs on the client: a commented template of each kind, loading a spec, uploading the files that it names."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cli.check import require_valid
from cli.client import Client
from cli.errors import CommandError, Exit
from cli.jobs.notation import parsed
from cli.output import say
from cli.upload import upload_file

PURPOSE_OF_KIND = {"pretrain": "pretrain", "sft": "fine-tune", "dpo": "fine-tune", "eval": "evals"}
_FILE_FIELDS = ("training_file", "validation_file", "eval_file", "fewshot_file")
_MIXTURE_FIELDS = ("mixture", "annealing")

TEMPLATES = {
    "pretrain": """\
kind: pretrain                 # next-token prediction on text
suffix: my-base                # names the model: my-base/1, my-base/2, ...
model:                         # an architecture: from scratch. Or the name of a model: go on training it
  type: llama
  hidden_size: 256
  num_hidden_layers: 4
  num_attention_heads: 4
tokenizer:
  vocab_size: 4096             # byte-level BPE, trained on the training file
training_file: ./text.txt      # .txt, or .jsonl of {"text": ...}; a path is uploaded, or give a file id
validation_file: auto          # auto: 5% held out by hash | a path or file id | null
hyperparameters:
  num_train_epochs: 1          # or max_steps
  learning_rate: auto
  per_device_train_batch_size: auto
  max_length: 512              # tokens in a row
seed: 42
""",
    "sft": """\
kind: sft                      # fine-tune on rows with answers; loss on the answers alone
suffix: my-adapter             # names the result: my-adapter/1, my-adapter/2, ...
model: my-base                 # name, name/version, or the id of a model, adapter or checkpoint
training_file: ./train.jsonl   # messages | prompt + completion | instruction + output; a path is uploaded
validation_file: auto          # auto: 5% held out by hash | a path or file id | null
tuning:
  method: lora                 # lora | qlora (base in 4 bits) | full
  r: 16                        # rank: a higher one learns more and is larger
  lora_alpha: 32
  target_modules: all-linear
  merge: none                  # auto: beside the adapter, a model with it merged in: my-adapter-merged
hyperparameters:
  num_train_epochs: 3          # or max_steps
  learning_rate: auto
  per_device_train_batch_size: auto
  max_length: 512              # tokens in a row; longer rows are cut (long_rows: drop leaves them out)
seed: 42
""",
    "dpo": """\
kind: dpo                      # learn from pairs: a chosen and a rejected answer to one prompt
suffix: my-preferred           # names the result: my-preferred/1, my-preferred/2, ...
model: my-adapter              # start and reference of the training: usually a fine-tuned model
training_file: ./pairs.jsonl   # prompt + chosen + rejected (text or messages); a path is uploaded
validation_file: auto          # auto: 5% held out by hash | a path or file id | null
dpo:
  beta: 0.1                    # how strongly it is kept near the reference
  loss_type: sigmoid           # sigmoid | ipo | hinge | robust | sigmoid_norm (over averages)
tuning:
  method: lora                 # lora | qlora (base in 4 bits) | full
  r: 16
  lora_alpha: 32
  target_modules: all-linear
hyperparameters:
  num_train_epochs: 1          # or max_steps
  learning_rate: auto          # 1e-5; 1e-6 for full tuning
  per_device_train_batch_size: auto
  max_length: 512              # tokens of a prompt with one answer
seed: 42
""",
    "eval": """\
kind: eval                     # score a model on held-out rows; every row's score is kept as a file
model: my-adapter              # name, name/version, or the id of a model, adapter or checkpoint
# compare_to: my-base          # scored on the same rows; differences are reported with their intervals
eval_file: ./heldout.jsonl     # any data format; a path is uploaded, or give a file id
evaluation:
  task: auto                   # loss | multiple_choice (question + choices + answer) | generate (exact match) | tokens
  max_length: 512
  # rows: [3, 17]                # tokens: the lines whose losses are reported token by token
  # num_fewshot: 5               # multiple_choice, generate: solved examples, from the file below
  # max_new_tokens: 256          # generate: tokens of an answer
  # temperature: 0               # generate: 0 is greedy
# fewshot_file: ./solved.jsonl # not indented: beside eval_file
""",
}


def load_spec(path: str) -> tuple[dict[str, Any], Path]:
    """Load a spec from a YAML or JSON file (`-` is stdin); return it and the folder that its paths are relative to.

    Raises:
        CommandError: the file is neither YAML nor JSON, or not a mapping.
    """
    source, folder = ("stdin", Path.cwd()) if path == "-" else (path, Path(path).absolute().parent)
    spec = parsed(_read(path), source)
    if not isinstance(spec, dict):
        raise CommandError(f"{source}: a job spec is a mapping of names to values.", Exit.INVALID, _SEE_INIT)
    return spec, folder


_SEE_INIT = "`trainyard jobs init sft` prints one to start from."


def _read(path: str) -> str:
    try:
        return sys.stdin.buffer.read().decode() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{'stdin' if path == '-' else path}: {error}", Exit.USAGE) from error


def override(spec: dict[str, Any], assignments: tuple[str, ...]) -> None:
    """Set `a.b=value` in the spec; the value is read as YAML."""
    for assignment in assignments:
        dotted, equals, value = assignment.partition("=")
        if not equals:
            raise CommandError(f"--set {assignment}: write it as name=value or group.name=value.", Exit.USAGE)
        *groups, name = dotted.split(".")
        place = spec
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise CommandError(f"--set {assignment}: {group} is a value, not a group.", Exit.USAGE)
        place[name] = parsed(value, f"--set {dotted}")


def upload_paths(client: Client, spec: dict[str, Any], folder: Path) -> None:
    """Upload every data file that the spec names by path, and replace the path with the file's id."""
    purpose = PURPOSE_OF_KIND.get(str(spec.get("kind")), "fine-tune")
    sent: dict[Path, str] = {}
    for holder, key, field in _file_places(spec):
        given = holder.get(key)
        if not isinstance(given, str) or given == "auto" or given.startswith("file-"):
            continue
        path = (folder / given).resolve()
        if not path.is_file():
            raise CommandError(f"{field}: {given} is not a file id, and there is no file {path}.", Exit.INVALID)
        if path not in sent:
            report = require_valid(path, purpose)
            sent[path] = upload_file(client, path, purpose)["id"]
            say(f"uploaded {path.name} ({report.row_count} rows) as {sent[path]}")
        holder[key] = sent[path]


def _file_places(spec: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Yield (mapping, key, path in the spec) of every place that may name a file."""
    yield from ((spec, field, field) for field in _FILE_FIELDS)
    for field in _MIXTURE_FIELDS:
        shares = spec.get(field)
        for number, share in enumerate(shares if isinstance(shares, list) else ()):
            if isinstance(share, dict):
                yield share, "file", f"{field}[{number}].file"
