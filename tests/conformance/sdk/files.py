"""client.files"""

import io

import openai
import rows
from trial import Trial


async def scenario(t: Trial) -> None:
    content = rows.chat(12)
    made = await t.call("files.create", file=("train.jsonl", content), purpose="fine-tune")
    t.same("files.create", "file", (made.object, made.bytes, made.filename), ("file", len(content), "train.jsonl"))
    t.same("files.create", "request id", bool(made._request_id), True)
    shown = await t.call("files.retrieve", made.id)
    t.same("files.retrieve", "file", shown, made)
    ready = await t.call("files.wait_for_processing", made.id)
    t.same("files.wait_for_processing", "status", ready.status, "processed")
    await content_comes_back(t, made.id, content)
    await lists(t)
    await expiry(t)
    await refusals(t)
    gone = await t.call("files.delete", made.id)
    t.same("files.delete", "answer", (gone.id, gone.object, gone.deleted), (made.id, "file", True))
    await t.refused("files.retrieve", openai.NotFoundError, made.id)


async def content_comes_back(t: Trial, file_id: str, content: bytes) -> None:
    answer = await t.call("files.content", file_id)
    t.same("files.content", "bytes", answer.read(), content)
    t.same("files.content", "text", answer.text, content.decode())


async def lists(t: Trial) -> None:
    """Pages follow each other, in either order, and none repeats a file."""
    t = t.at()  # evals is a purpose that can be sent, and not one that a FileObject may have in the package's types
    made = [await t.call("files.create", file=io.BytesIO(rows.items(2)), purpose="evals") for _ in range(3)]
    ids = [file.id for file in made]
    newest = await t.every("files.list", purpose="evals", limit=2, order="desc")
    t.same("files.list", "newest first", [file.id for file in newest][:3], ids[::-1])
    oldest = await t.every("files.list", purpose="evals", limit=1, order="asc", after=ids[0])
    t.same("files.list", "after", [file.id for file in oldest], ids[1:])
    page = await t.call("files.list", limit=1)
    t.same("files.list", "has_more", (len(page.data), page.has_more, page.has_next_page()), (1, True, True))
    for file_id in ids:
        await t.call("files.delete", file_id)


async def expiry(t: Trial) -> None:
    after = {"anchor": "created_at", "seconds": 3600}
    made = await t.call("files.create", file=("a.bin", b"\x00\xff"), purpose="user_data", expires_after=after)
    t.same("files.create", "expires_at", made.expires_at, made.created_at + 3600)
    answer = await t.call("files.content", made.id)
    t.same("files.content", "bytes of any kind", answer.read(), b"\x00\xff")
    await t.call("files.delete", made.id)


async def refusals(t: Trial) -> None:
    broken = rows.chat(1) + b'{"messages": [{"role": "usr", "content": "?"}]}\n'
    error = await t.refused("files.create", openai.BadRequestError, file=("a.jsonl", broken), purpose="fine-tune")
    t.same("files.create", "line of the fault", "line 2" in error.message, True)
    error = await t.refused("files.content", openai.NotFoundError, "file-nothere")
    t.same("files.content", "code", error.code, "file_not_found")
