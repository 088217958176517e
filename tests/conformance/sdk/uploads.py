"""client.uploads"""

import hashlib

import openai
import rows
from trial import Trial


async def scenario(t: Trial) -> None:
    content = rows.chat(30)
    cut = len(content) // 3
    about = {"bytes": len(content), "filename": "big.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"}
    upload = await t.call("uploads.create", **about)
    t.same("uploads.create", "status", (upload.status, upload.bytes), ("pending", len(content)))
    last = await t.call("uploads.parts.create", upload.id, data=content[cut:])
    first = await t.call("uploads.parts.create", upload.id, data=content[:cut])
    t.same("uploads.parts.create", "upload_id", first.upload_id, upload.id)
    ids = [first.id, last.id]
    await t.refused("uploads.complete", openai.BadRequestError, upload.id, part_ids=ids, md5="0" * 32)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    done = await t.call("uploads.complete", upload.id, part_ids=ids, md5=md5)
    t.same("uploads.complete", "file", (done.status, done.file.bytes), ("completed", len(content)))
    again = await t.call("uploads.complete", upload.id, part_ids=ids, md5=md5)
    t.same("uploads.complete", "file of the second time", again.file.id, done.file.id)
    answer = await t.call("files.content", done.file.id)
    t.same("uploads.complete", "bytes", answer.read(), content)
    await t.call("files.delete", done.file.id)
    other = await t.call("uploads.create", **about, expires_after={"anchor": "created_at", "seconds": 3600})
    gone = await t.call("uploads.cancel", other.id)
    t.same("uploads.cancel", "status", gone.status, "cancelled")
    await t.refused("uploads.parts.create", openai.ConflictError, other.id, data=b"x")
    chunked = {"filename": "c.jsonl", "bytes": len(content), "mime_type": "text/jsonl", "purpose": "fine-tune"}
    whole = await t.call("uploads.upload_file_chunked", file=content, part_size=500, **chunked)
    t.same("uploads.upload_file_chunked", "status", whole.status, "completed")
    await t.call("files.delete", whole.file.id)
