"""Rows of data files, as OpenAI's users have them."""

import json


def jsonl(rows: list[dict]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def chat(count: int) -> bytes:
    """Conversations for supervised tuning."""
    return jsonl(
        [
            {
                "messages": [
                    {"role": "system", "content": "You add."},
                    {"role": "user", "content": f"What is {n} and {n}?"},
                    {"role": "assistant", "content": f"It is {n + n}."},
                ]
            }
            for n in range(count)
        ]
    )


def preferences(count: int) -> bytes:
    """Pairs of answers, in OpenAI's own shape."""
    return jsonl(
        [
            {
                "input": {
                    "messages": [{"role": "user", "content": f"What is {n} and {n}?"}],
                    "tools": [],
                    "parallel_tool_calls": True,
                },
                "preferred_output": [{"role": "assistant", "content": f"It is {n + n}."}],
                "non_preferred_output": [{"role": "assistant", "content": "I do not know."}],
            }
            for n in range(count)
        ]
    )


def items(count: int) -> bytes:
    """What an eval grades: a question with its answer, and what a model said."""
    return jsonl(
        [
            {"item": {"question": f"{n}+{n}", "answer": str(n + n)}, "sample": {"output_text": str(n + n + n % 2)}}
            for n in range(count)
        ]
    )
