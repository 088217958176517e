"""Files as the API shows them."""

from typing import Any, Literal

from pydantic import Field

from api.answers import Object
from api.files.upload import ALL_PURPOSES, EXPIRES_AFTER_S
from db.models import File
from engine.rows import FORMATS

MADE_PURPOSES = ("fine-tune-results", "eval-results")
"""Of files that jobs leave."""


class FileObject(Object):
    """An uploaded file, checked and stored, or what a job made. `format` is the shape of its rows, if it has any."""

    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    sha256: str
    format: str = Field(json_schema_extra={"enum": [*FORMATS, "unchecked", "items", "archive"]})
    row_count: int
    expires_at: int | None


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
            "expires_at": None if file.expires_at is None else int(file.expires_at),
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
                            "enum": list(ALL_PURPOSES),
                            "description": "fine-tune: preference (dpo), chat, prompt/completion or instruction rows; "
                            "pretrain: text; evals: these but preference, multiple choice, and items for graders; "
                            "model: a file of a model to import, or a tar of one; the others are kept as they are. Send it before the file.",
                        },
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {
                            "type": "integer",
                            "minimum": EXPIRES_AFTER_S[0],
                            "maximum": EXPIRES_AFTER_S[1],
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
