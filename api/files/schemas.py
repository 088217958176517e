"""Files as the API shows them."""

from typing import Any, Literal

from api.answers import Object
from db.models import File
from engine.rows import PURPOSES


class FileObject(Object):
    """An uploaded file, checked and stored, or the items of an evaluation. `format` is the shape of its rows."""

    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    sha256: str
    format: Literal["preference", "multiple_choice", "chat", "completion", "instruction", "text_jsonl", "text", "items"]
    row_count: int


def file_object(file: File) -> FileObject:
    return FileObject.model_validate(
        {
            "id": file.id,
            "bytes": file.size_bytes,
            "created_at": int(file.created_at),
            "filename": file.filename,
            "purpose": file.purpose,
            "sha256": file.sha256,
            "format": file.format,
            "row_count": file.row_count,
        }
    )


# The body is read as it streams in, so the framework does not see its schema by itself.
UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["purpose", "file"],
                    "additionalProperties": False,
                    "properties": {
                        "purpose": {
                            "type": "string",
                            "enum": list(PURPOSES),
                            "description": "fine-tune: preference (dpo), chat, prompt/completion or instruction rows; pretrain: text; "
                            "evals: these but preference, and multiple choice. Send it before the file.",
                        },
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "JSON Lines, or plain text in a .txt file; UTF-8.",
                        },
                    },
                }
            }
        },
    }
}
