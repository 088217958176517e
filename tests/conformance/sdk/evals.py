"""client.evals, its runs and their output items, and client.fine_tuning.alpha.graders"""

import asyncio
import os
import time

import openai
import rows
from trial import Trial

EQUAL = {
    "type": "string_check",
    "name": "equal",
    "input": "{{sample.output_text}}",
    "reference": "{{ item.answer }}",
    "operation": "eq",
}
ALIKE = {
    "type": "text_similarity",
    "name": "alike",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "evaluation_metric": "fuzzy_match",
    "pass_threshold": 0.1,
}
DRAWN = {"temperature": 1.0, "seed": 7}
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
CUSTOM = {"type": "custom", "item_schema": SCHEMA, "include_sample_schema": True}


async def scenario(t: Trial) -> None:
    made = await t.call(
        "evals.create", name="sums", data_source_config=CUSTOM, testing_criteria=[EQUAL, ALIKE], metadata={"a": "b"}
    )
    t.same("evals.create", "name", (made.object, made.name, made.metadata), ("eval", "sums", {"a": "b"}))
    t.same("evals.create", "schema", made.data_source_config.schema_["properties"]["item"], SCHEMA)
    t.same("evals.retrieve", "eval", (await t.call("evals.retrieve", made.id)).to_dict(), made.to_dict())
    renamed = await t.call("evals.update", made.id, name="sums of two")
    t.same("evals.update", "name", (renamed.name, renamed.metadata), ("sums of two", {"a": "b"}))
    listed = await t.every("evals.list", limit=1, order="desc", order_by="created_at")
    t.same("evals.list", "newest", listed[0].id, made.id)
    listed = await t.every("evals.list", limit=1, order="desc", order_by="updated_at")
    t.same("evals.list", "last changed", listed[0].id, made.id)
    await runs(t, made.id)
    await graders(t)
    label = {"type": "label_model", "name": "l", "model": "m", "input": [{"role": "user", "content": "x"}]}
    label |= {"labels": ["a", "b"], "passing_labels": ["a"]}
    criteria = [label]
    await t.refused("evals.create", openai.BadRequestError, data_source_config=CUSTOM, testing_criteria=criteria)
    gone = await t.call("evals.delete", made.id)
    t.same("evals.delete", "answer", (gone.eval_id, gone.deleted), (made.id, True))
    await t.refused("evals.retrieve", openai.NotFoundError, made.id)


async def runs(t: Trial, eval_id: str) -> None:
    file = await t.at().call("files.create", file=("items.jsonl", rows.items(10)), purpose="evals")
    source = {"type": "jsonl", "source": {"type": "file_id", "id": file.id}}
    run = await t.call("evals.runs.create", eval_id, name="first", data_source=source, metadata={"k": "v"})
    t.same("evals.runs.create", "run", (run.object, run.eval_id, run.name), ("eval.run", eval_id, "first"))
    deadline = time.monotonic() + 60
    while run.status in {"queued", "in_progress"} and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        run = await t.call("evals.runs.retrieve", run.id, eval_id=eval_id)
    counts = run.result_counts
    counted = (run.status, counts.total, counts.passed, counts.failed, counts.errored)
    t.same("evals.runs.retrieve", "result", counted, ("completed", 10, 5, 5, 0))
    told = [(one.testing_criteria, one.passed, one.failed) for one in run.per_testing_criteria_results]
    t.same("evals.runs.retrieve", "criteria", told[0], ("equal", 5, 5))
    await output_items(t, eval_id, run.id)
    content = [{"item": {"answer": "1"}, "sample": {"output_text": "1"}}]
    inline = {"type": "jsonl", "source": {"type": "file_content", "content": content}}
    other = await t.call("evals.runs.create", eval_id, data_source=inline)
    cancelled = await t.call("evals.runs.cancel", other.id, eval_id=eval_id)
    t.same("evals.runs.cancel", "status", cancelled.status in {"canceled", "completed"}, True)
    ids = [one.id for one in await t.every("evals.runs.list", eval_id, limit=1, order="asc")]
    t.same("evals.runs.list", "ids", ids, [run.id, other.id])
    done = [one.id for one in await t.every("evals.runs.list", eval_id, status="completed")]
    t.same("evals.runs.list", "by status", run.id in done, True)
    gone = await t.call("evals.runs.delete", other.id, eval_id=eval_id)
    t.same("evals.runs.delete", "answer", (gone.run_id, gone.deleted), (other.id, True))
    await t.refused("evals.runs.retrieve", openai.NotFoundError, other.id, eval_id=eval_id)


async def output_items(t: Trial, eval_id: str, run_id: str) -> None:
    method = "evals.runs.output_items.list"
    items = await t.every(method, run_id, eval_id=eval_id, limit=3)
    t.same(method, "rows", [one.datasource_item_id for one in items], list(range(10)))
    t.same(method, "item", items[3].datasource_item, {"question": "3+3", "answer": "6"})
    t.same(method, "sample", items[3].sample.output[0].content, "7")
    failed = await t.every(method, run_id, eval_id=eval_id, status="fail")
    t.same(method, "failed", [one.status for one in failed], ["fail"] * 5)
    shown = await t.call("evals.runs.output_items.retrieve", items[3].id, eval_id=eval_id, run_id=run_id)
    t.same("evals.runs.output_items.retrieve", "item", shown.to_dict(), items[3].to_dict())


async def graders(t: Trial) -> None:
    method = "fine_tuning.alpha.graders"
    checked = await t.call(f"{method}.validate", grader=EQUAL)
    t.same(f"{method}.validate", "grader", checked.grader.name, "equal")
    right = await t.call(f"{method}.run", grader=EQUAL, model_sample="4", item={"answer": "4"})
    t.same(f"{method}.run", "reward", (right.reward, right.metadata.scores), (1.0, {"equal": 1.0}))
    alike = {name: value for name, value in ALIKE.items() if name != "pass_threshold"}
    near = await t.call(f"{method}.run", grader=alike, model_sample="four", item={"answer": "fore"})
    t.same(f"{method}.run", "similarity", 0 < near.reward < 1, True)
    await judges(t, method)
    lost = await t.call(f"{method}.run", grader=EQUAL, model_sample="4", item={})
    t.same(f"{method}.run", "error", (lost.reward, lost.metadata.errors.invalid_variable_error), (0.0, True))
    await t.refused(f"{method}.validate", openai.UnprocessableEntityError, grader={"type": "string_check"})


async def judges(t: Trial, method: str) -> None:
    """Graders that ask a model. One that has learnt next to nothing says no number in the range, and its own words again."""
    model = os.environ["TRAINYARD_MODEL"]
    message = {"role": "user", "content": "Is {{sample.output_text}} right?"}
    score = {"type": "score_model", "name": "score", "model": model, "input": [message], "range": [2.5, 2.6]}
    score["sampling_params"] = {"max_completions_tokens": 8}
    told = await t.call(f"{method}.run", grader=score, model_sample="4", item={})
    t.same(
        f"{method}.run",
        "no score",
        (told.reward, told.metadata.errors.to_dict()["model_grader_parse_error"]),
        (0.0, True),
    )
    chat = await t.call(
        "chat.completions.create",
        model=model, **DRAWN, max_tokens=8, messages=[{"role": "user", "content": "Is 4 right?"}],
    )  # fmt: skip
    words = chat.choices[0].message.content.strip()
    label = {"type": "label_model", "name": "label", "model": model, "input": [message], "labels": [words, "other"]}
    label |= {"passing_labels": [words], "sampling_params": DRAWN | {"max_completion_tokens": 8}}
    told = await t.call(f"{method}.run", grader=label, model_sample="4", item={})
    t.same(f"{method}.run", "label", (told.reward, told.metadata.sampled_model_name), (1.0, model))
    both = {"type": "multi", "name": "both", "graders": EQUAL, "calculate_output": "equal / 2"}
    told = await t.call(f"{method}.run", grader=both, model_sample="4", item={"answer": "4"})
    t.same(f"{method}.run", "multi", (told.reward, told.sub_rewards), (0.5, {"equal": 1.0}))
    code = {"type": "python", "name": "code", "source": "def grade(sample, item): return 1.0"}
    await t.refused(f"{method}.validate", openai.UnprocessableEntityError, grader=code)
