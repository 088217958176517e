"""Responses: objects and pages, serialized to JSON straight from their models."""

from collections.abc import Mapping
from typing import Generic, Literal, Self, TypeVar

from fastapi import Response
from pydantic import BaseModel


class Object(BaseModel):
    """An object with an id."""

    id: str


ObjectT = TypeVar("ObjectT", bound=Object)
T = TypeVar("T")


class Page(BaseModel, Generic[ObjectT]):
    """A page of a listing; `after=last_id` requests the next one."""

    object: Literal["list"] = "list"
    data: list[ObjectT]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None

    @classmethod
    def of(cls, data: list[ObjectT], has_more: bool = False) -> Self:
        ids = [item.id for item in data] or [None]
        return cls(data=data, has_more=has_more, first_id=ids[0], last_id=ids[-1])


class Series(BaseModel, Generic[T]):
    """A page of a numbered series; `after=last_id` requests the next one."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool = False
    first_id: int | None = None
    last_id: int | None = None


class Deleted(Object):
    """The confirmation that an object was deleted."""

    object: str
    deleted: Literal[True] = True


def answer(content: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response with the object. Routes return a response so that FastAPI does not validate it again."""
    return Response(content.model_dump_json(by_alias=True), status, headers, media_type="application/json")
