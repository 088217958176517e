"""Job specs on the client's side: every start is valid, every fault is named."""

import io
from pathlib import Path

import pytest
import yaml

from cli.errors import CommandError, Exit
from cli.jobs.spec import TEMPLATES, load_spec, override
from engine.jobs import JOB_SPEC, SPECS

EXAMPLES = Path(__file__).parents[3] / "examples"


def with_ids(spec: dict) -> dict:
    """The spec as it goes over the wire: paths replaced by file ids."""
    fields = {name: "file-0123" for name in ("training_file", "eval_file") if name in spec}
    return {**spec, **fields}


def test_there_is_a_start_for_every_kind() -> None:
    assert TEMPLATES.keys() == SPECS.keys()


@pytest.mark.parametrize("kind", TEMPLATES)
def test_the_commented_start_of_a_kind_is_a_valid_spec(kind: str) -> None:
    spec = JOB_SPEC.validate_python(with_ids(yaml.safe_load(TEMPLATES[kind])))
    assert spec.kind == kind


@pytest.mark.parametrize("name", ["pretrain.yaml", "sft.yaml", "dpo.yaml", "eval.yaml"])
def test_the_example_specs_are_valid_and_name_files_that_exist(name: str) -> None:
    spec, folder = load_spec(str(EXAMPLES / name))
    JOB_SPEC.validate_python(with_ids(spec))
    data = spec.get("training_file") or spec["eval_file"]
    assert (folder / data).is_file()


def test_paths_are_relative_to_the_spec_file(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("kind: sft\n")
    assert load_spec(str(tmp_path / "job.yaml")) == ({"kind": "sft"}, tmp_path)


def test_broken_yaml_is_told_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("kind: sft\nmodel: [a\nseed: 1\n")
    with pytest.raises(CommandError, match=r"job\.yaml:3:5: not YAML") as caught:
        load_spec(str(path))
    assert caught.value.code is Exit.INVALID


def test_a_list_is_no_spec(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("- kind: sft\n")
    with pytest.raises(CommandError, match="a job spec is a mapping"):
        load_spec(str(path))


def test_a_set_option_reaches_into_groups() -> None:
    spec = {"kind": "sft", "hyperparameters": {"max_steps": 5}}
    override(spec, ("hyperparameters.learning_rate=1.0e-3", "seed=7", "tuning.method=full"))
    assert spec["hyperparameters"] == {"max_steps": 5, "learning_rate": 0.001}
    assert spec["seed"] == 7
    assert spec["tuning"] == {"method": "full"}


@pytest.mark.parametrize("assignment", ["seed", "kind.name=x"])
def test_a_set_option_that_cannot_be_is_a_usage_error(assignment: str) -> None:
    with pytest.raises(CommandError) as caught:
        override({"kind": "sft"}, (assignment,))
    assert caught.value.code is Exit.USAGE


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("suffix: 2024-01-01\n", "suffix: 2024-01-01 is read as a date"),
        ("suffix: 2024-99-99\n", "not YAML"),
        ("seed: .nan\n", "seed: nan is not a number"),
        ("hyperparameters: {learning_rate: .inf}\n", "hyperparameters.learning_rate: inf is not a number"),
        ('tags: ["\\ud800"]\n', "tags[0]: "),
        ('{"\\ud800": 1}\n', "lone surrogate"),
        ("1: 2\n", "the name 1 is not text"),
    ],
)
def test_a_value_without_json_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(CommandError) as caught:
        load_spec(str(tmp_path / "job.yaml"))
    assert told in caught.value.message
    assert caught.value.code is Exit.INVALID


@pytest.mark.parametrize("assignment", ["a=[", "a=2024-01-01", "a.b=.nan"])
def test_a_value_of_set_is_held_to_the_same(assignment: str) -> None:
    with pytest.raises(CommandError) as caught:
        override({}, (assignment,))
    assert caught.value.code is Exit.INVALID
    assert "--set" in caught.value.message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: sft\nseed: 1\nseed: 2\n", r"job\.yaml:3:1: the name 'seed' is repeated in one group"),
        ("tuning:\n  r: 8\n  'r': 16\n", r"job\.yaml:3:3: the name 'r' is repeated in one group"),
        ("{kind: sft, kind: dpo}\n", r"job\.yaml:1:13: the name 'kind' is repeated in one group"),
        ('{"kind": "sft", "tuning": {"r": 8, "r": 16}}', r"job\.yaml: the name 'r' is repeated in one group"),
        ('{"a": 1, "a": 2,}', r"job\.yaml:1:10: the name 'a' is repeated in one group"),
    ],
)
def test_a_name_that_stands_twice_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(CommandError, match=f"{told}$") as caught:
        load_spec(str(tmp_path / "job.yaml"))
    assert caught.value.code is Exit.INVALID


def test_one_group_may_merge_several(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("a: &a {r: 8}\nb: &b {s: 1}\nc:\n  <<: *a\n  <<: *b\n  t: 2\n")
    spec, _ = load_spec(str(tmp_path / "job.yaml"))
    assert spec["c"] == {"r": 8, "s": 1, "t": 2}


def test_what_a_merge_brings_may_be_said_anew(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("a: &a {r: 8, s: 1}\nb: &b {<<: *a, r: 16}\nc: {<<: *b}\n")
    spec, _ = load_spec(str(tmp_path / "job.yaml"))
    assert spec["c"] == {"r": 16, "s": 1}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{\n\t"kind": "sft",\n\t"seed": 7\n}\n', {"kind": "sft", "seed": 7}),
        ('{"suffix": "\\ud83d\\ude00"}', {"suffix": "\U0001f600"}),
        ('{"hyperparameters": {"learning_rate": 1e-05}}', {"hyperparameters": {"learning_rate": 1e-05}}),
        ("{kind: sft, seed: 7,}", {"kind": "sft", "seed": 7}),
    ],
)
def test_json_is_read_as_json_and_braces_of_yaml_as_yaml(tmp_path: Path, text: str, read: dict) -> None:
    (tmp_path / "job.json").write_text(text)
    assert load_spec(str(tmp_path / "job.json"))[0] == read


def test_what_is_neither_is_told_by_both(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{\n\t"kind": "sft"\n\t"seed": 7\n}\n')
    with pytest.raises(CommandError, match=r"not YAML: .*; nor JSON: Expecting ',' delimiter: line 3"):
        load_spec(str(tmp_path / "job.json"))


@pytest.mark.parametrize("text", ["x: &x [*x]\n", "x: " + "[" * 5000, '{"a":' * 100_000])
def test_what_has_no_end_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(CommandError, match="nested too deeply, or containing itself"):
        load_spec(str(tmp_path / "job.yaml"))


def test_bytes_on_stdin_that_are_no_text_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"kind: \xff")))
    with pytest.raises(CommandError, match="stdin: 'utf-8' codec can't decode byte 0xff") as caught:
        load_spec("-")
    assert caught.value.code is Exit.USAGE
