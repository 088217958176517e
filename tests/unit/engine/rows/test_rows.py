"""Rows: what the checker finds, where it says it is, and the one reading of a sound row."""

import time
import tracemalloc

import orjson
import pytest

from engine.rows import PURPOSES, Report, RowChecker, RowError, RowFault, parse_row, read_line

CHAT = b'{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}\n'


def check(data: bytes, purpose="fine-tune", filename="rows.jsonl", chunk_bytes=7, **limits) -> Report:
    checker = RowChecker(purpose=purpose, filename=filename, **limits)
    for start in range(0, len(data), chunk_bytes):
        checker.feed(data[start : start + chunk_bytes])
    return checker.finish()


def only_fault(data: bytes, **options) -> RowFault:
    report = check(data, **options)
    assert report.fault_count == 1, report
    return report.faults[0]


@pytest.mark.parametrize(
    ("row", "purpose", "filename", "wanted"),
    [
        (CHAT, "fine-tune", "a.jsonl", "chat"),
        (b'{"prompt": "a", "completion": "b"}', "fine-tune", "a.jsonl", "completion"),
        (b'{"instruction": "a", "input": "x", "output": "b"}', "fine-tune", "a.jsonl", "instruction"),
        (b'{"instruction": "a", "input": null, "output": "b"}', "evals", "a.jsonl", "instruction"),
        (b'{"text": "a"}', "pretrain", "a.jsonl", "text_jsonl"),
        (b"once upon a time\n", "pretrain", "a.TXT", "text"),
        (b'{"messages": not rows of JSON here', "evals", "a.txt", "text"),
        (b'{"text": "also there", "instruction": "a", "output": "b"}', "fine-tune", "a.jsonl", "instruction"),
    ],
)
def test_a_file_of_each_format_is_recognised(row, purpose, filename, wanted):
    report = check(row, purpose=purpose, filename=filename)
    assert (report.format, report.row_count, report.fault_count) == (wanted, 1, 0)


def test_a_byte_order_mark_crlf_and_blank_lines_are_accepted():
    report = check(b"\xef\xbb\xbf" + CHAT.replace(b"\n", b"\r\n") + b"\r\n  \n" + CHAT.rstrip())
    assert (report.row_count, report.fault_count) == (2, 0)


def test_extra_columns_and_huge_integers_are_accepted():
    row = CHAT.replace(b'{"messages"', b'{"id": 123456789012345678901234567890, "source": "web", "messages"')
    assert check(row).fault_count == 0


@pytest.mark.parametrize("chunk_bytes", [1, 2, 64, 1_000_000])
def test_the_report_does_not_depend_on_how_the_bytes_are_cut(chunk_bytes):
    data = CHAT + b"{oops\n" + '{"prompt": "é"\n'.encode() + CHAT
    assert check(data, chunk_bytes=chunk_bytes) == check(data, chunk_bytes=3)


def test_a_line_that_is_not_json_is_told_by_line_and_column():
    fault = only_fault(CHAT + CHAT + b'{"messages": [}\n')
    assert (fault.code, fault.line, fault.column) == ("not_json", 3, 15)


def test_columns_count_characters_not_bytes():
    assert only_fault('{"é": tru}'.encode()).column == 7


@pytest.mark.parametrize("literal", [b"NaN", b"-Infinity", b"Infinity"])
def test_nan_and_infinity_are_not_json(literal):
    fault = only_fault(b'{"prompt": "a", "completion": "b", "score": ' + literal + b"}")
    assert fault.code == "not_json"
    assert "null" in (fault.hint or "")


def test_a_lone_surrogate_is_not_json():
    assert only_fault(b'{"prompt": "a", "completion": "\\ud800"}').code == "not_json"


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_a_fault_and_no_crash(opening):
    assert only_fault(opening * 100_000).code == "not_json"


@pytest.mark.parametrize(("depth", "codes"), [(100, {}), (101, {"too_deep": 1}), (900, {"too_deep": 1})])
def test_a_row_nests_a_hundred_levels_at_most(depth, codes):
    nested = b'{"item":' * (depth - 1) + b"[]" + b"}" * (depth - 1)
    report = check(b'{"item": {}}\n' + nested, "evals")
    assert (report.counts_by_code, [fault.line for fault in report.faults]) == (codes, [2] * len(codes))


def test_an_indented_document_gets_the_hint_to_write_one_row_a_line():
    fault = check(b'{\n  "messages": []\n}\n').faults[0]
    assert "JSON Lines" in (fault.hint or "")


def test_a_list_on_a_line_is_not_an_object():
    fault = only_fault(b"[1, 2]\n")
    assert (fault.code, fault.hint) == ("not_an_object", "write one object a line, not one list")


def test_bytes_that_are_not_utf8_are_told_by_byte_and_column():
    fault = only_fault(CHAT + '{"prompt": "é'.encode() + b'\xff", "completion": "b"}')
    assert (fault.code, fault.line, fault.column) == ("not_utf8", 2, 14)
    assert "byte 15" in fault.message
    assert fault.value == "ff 22 2c 20"


def test_a_nul_byte_is_told_with_the_hint_of_utf16():
    fault = only_fault("hello".encode("utf-16-le"), purpose="pretrain", filename="a.txt")
    assert (fault.code, fault.line, fault.column) == ("nul_byte", 1, 2)
    assert "UTF-16" in (fault.hint or "")


@pytest.mark.parametrize("data", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_a_file_without_rows_is_empty(data):
    assert only_fault(data).code == "empty_file"


def test_an_unknown_role_gets_a_did_you_mean():
    fault = only_fault(CHAT.replace(b'"assistant"', b'"asistant"'))
    assert (fault.code, fault.path) == ("unknown_role", "messages[1].role")
    assert (fault.value, fault.hint) == ("asistant", "did you mean 'assistant'?")


def test_a_row_without_an_assistant_turn_is_told():
    fault = only_fault(b'{"messages": [{"role": "user", "content": "hello?"}]}')
    assert (fault.code, fault.path) == ("no_assistant_turn", "messages")


def test_a_row_that_ends_with_a_question_is_told():
    row = CHAT.replace(b"]}\n", b', {"role": "user", "content": "and 3+3?"}]}\n')
    fault = only_fault(row)
    assert (fault.code, fault.path) == ("last_not_assistant", "messages[2]")


def test_a_weight_of_an_answer_is_0_or_1_and_not_all_are_0():
    assert check(CHAT.replace(b'"4"', b'"4", "weight": 1')).fault_count == 0
    fault = only_fault(CHAT.replace(b'"4"', b'"4", "weight": 0.5'))
    assert (fault.code, fault.path) == ("bad_weight", "messages[1].weight")
    fault = only_fault(CHAT.replace(b'"4"', b'"4", "weight": 0'))
    assert (fault.code, fault.path) == ("no_assistant_turn", "messages")


def test_what_stands_beside_the_turns_is_refused_and_not_passed_over():
    call = b'"4", "tool_calls": [{"function": {"name": "add"}}]'
    fault = only_fault(CHAT.replace(b'"4"', call))
    assert (fault.code, fault.path) == ("not_in_content", "messages[1].tool_calls")
    for key in (b"tools", b"functions"):
        fault = only_fault(CHAT.replace(b"]}\n", b'], "%s": [{"name": "add"}]}\n' % key))
        assert (fault.code, fault.path) == ("not_in_content", key.decode())


def test_what_is_empty_beside_the_turns_says_nothing():
    row = CHAT.replace(b'"4"', b'"4", "tool_calls": [], "name": "sum"').replace(b"]}\n", b'], "tools": []}\n')
    assert check(row).fault_count == 0


@pytest.mark.parametrize(
    ("row", "code", "path"),
    [
        (b'{"messages": []}', "no_assistant_turn", "messages"),
        (b'{"messages": "hello"}', "wrong_type", "messages"),
        (b'{"messages": [7]}', "wrong_type", "messages[0]"),
        (b'{"messages": [{"role": "assistant"}]}', "missing_field", "messages[0].content"),
        (b'{"messages": [{"role": 1, "content": "a"}]}', "wrong_type", "messages[0].role"),
        (b'{"messages": [{"role": "assistant", "content": null}]}', "wrong_type", "messages[0].content"),
        (b'{"messages": [{"role": "assistant", "content": " "}]}', "empty_answer", "messages[0].content"),
        (b'{"prompt": "a"}', "missing_field", "completion"),
        (b'{"prompt": "a", "completion": ""}', "empty_answer", "completion"),
        (b'{"prompt": ["a"], "completion": "b"}', "wrong_type", "prompt"),
        (b'{"instruction": "a", "input": 3, "output": "b"}', "wrong_type", "input"),
        (b'{"question": "a", "answer": "b"}', "unknown_format", ""),
    ],
)
def test_a_bad_field_is_told_by_its_path(row, code, path):
    fault = only_fault(row)
    assert (fault.code, fault.path) == (code, path)


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        (b'{"prompt": "a", "completoin": "b"}', "is 'completoin' meant to be 'completion'?"),
        (b'{"mesages": []}', "did you mean 'messages'?"),
        (b'{"messages": [{"role": "assistant", "contnt": "a"}]}', "is 'contnt' meant to be 'content'?"),
        (b'{"text": "a"}', "rows like this one are uploaded with purpose 'pretrain' or 'evals'"),
    ],
)
def test_a_mistyped_or_misplaced_key_gets_a_mend(row, hint):
    assert only_fault(row).hint == hint


def test_a_row_of_another_format_is_told_with_both_formats():
    fault = only_fault(CHAT + b'{"prompt": "a", "completion": "b"}\n')
    assert (fault.code, fault.line) == ("mixed_formats", 2)
    assert "since line 1" in fault.message


def test_all_faults_are_counted_and_the_first_thousand_listed():
    report = check(b"oops\n" * 1500 + b'{"prompt": "a"}\n' * 7, chunk_bytes=4096)
    assert report.fault_count == 1507
    assert len(report.faults) == 1000
    assert report.counts_by_code == {"not_json": 1500, "missing_field": 7}


def test_excerpts_are_short_and_printable():
    fault = only_fault(b'{"prompt": "' + b"x" * 500 + b'", "completion": "\x1b[31m"}')
    assert len(fault.value or "") <= 60
    assert (fault.value or "").isprintable()


def test_a_line_over_the_limit_is_one_fault_and_the_next_line_is_read():
    data = CHAT + b"x" * 5000 + b"\n" + CHAT
    report = check(data, max_line_bytes=1000)
    assert [(fault.code, fault.line) for fault in report.faults] == [("line_too_long", 2)]
    assert report.row_count == 2


@pytest.mark.parametrize("values", [b"[],", b"{},", b'"a,b",'])
def test_a_row_of_more_values_than_anyone_writes_is_one_fault(values: bytes):
    row = b'{"messages": [' + values * 100_001 + b"1]}\n"
    report = check(row + CHAT, chunk_bytes=65_536)
    assert [(fault.code, fault.line) for fault in report.faults] == [("too_many_values", 1)]
    assert report.row_count == 1


def test_what_stands_in_strings_are_no_values():
    row = orjson.dumps({"messages": [{"role": "assistant", "content": 'a[{,\\"' * 100_000}]})
    assert check(row, chunk_bytes=65_536).row_count == 1


def test_a_line_of_quotes_that_never_end_is_read_once():
    row = b'{"messages": "' + b'\\"' * 1_000_000 + b"," * 100_001
    begun = time.perf_counter()
    assert only_fault(row, chunk_bytes=65_536).code == "not_json"
    assert time.perf_counter() - begun < 10  # read again from every quote it takes days


def test_a_line_of_two_gibibytes_is_skipped_in_constant_memory():
    checker = RowChecker(purpose="fine-tune", filename="a.jsonl")
    chunk = b"x" * 2**20
    tracemalloc.start()
    for _ in range(2048):
        checker.feed(chunk)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert checker.finish().counts_by_code == {"line_too_long": 1}
    assert peak_bytes < 64 * 2**20


def test_an_unknown_purpose_is_refused():
    with pytest.raises(ValueError, match="it must be one of"):
        RowChecker(purpose="finetune", filename="a.jsonl")


@pytest.mark.parametrize(
    ("row", "format_", "wanted"),
    [
        ({"prompt": "a", "completion": "b"}, "completion", [("user", "a"), ("assistant", "b")]),
        ({"instruction": "a", "output": "b"}, "instruction", [("user", "a"), ("assistant", "b")]),
        ({"instruction": "a", "input": "x", "output": "b"}, "instruction", [("user", "a\n\nx"), ("assistant", "b")]),
        ({"messages": [{"role": "assistant", "content": "b", "name": "n"}]}, "chat", [("assistant", "b")]),
    ],
)
def test_every_format_with_answers_reads_as_messages(row, format_, wanted):
    assert parse_row(row, format_) == [{"role": role, "content": content} for role, content in wanted]


def test_a_text_row_reads_as_its_text():
    assert parse_row({"text": "abc", "id": 1}, "text_jsonl") == "abc"


def test_a_row_that_the_checker_refuses_is_refused_by_the_reader():
    with pytest.raises(RowError, match=r"messages\[0\]\.role"):
        parse_row({"messages": [{"role": "usr", "content": "a"}]}, "chat")


@pytest.mark.parametrize(("line", "code"), [(b"{", "not_json"), (b"[]", "not_an_object")])
def test_a_line_that_is_no_object_is_refused(line, code):
    with pytest.raises(RowError) as caught:
        read_line(line)
    assert caught.value.flaw.code == code


def test_every_purpose_takes_formats_that_exist():
    assert set(PURPOSES) == {"fine-tune", "pretrain", "evals"}
