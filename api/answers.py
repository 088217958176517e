"""Answers: objects and pages as JSON, written straight from their schema."""

from collections.abc import Mapping
from typing import Generic, Literal, Self, TypeVar

from fastapi import Response
from pydantic import BaseModel


class Object(BaseModel):
    """Anything that has an id."""

    id: str


ObjectT = TypeVar("ObjectT", bound=Object)
T = TypeVar("T")


class Page(BaseModel, Generic[ObjectT]):
    """A page of a listing; `after=last_id` asks for the next one."""

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
    """A page of a numbered series; `after=last_id` asks for the next one."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool = False
    first_id: int | None = None
    last_id: int | None = None


class Deleted(Object):
    """What is left to say about a deleted object."""

    object: str
    deleted: Literal[True] = True


def answer(content: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The object as JSON. Routes return this, so nothing is validated twice."""
    return Response(content.model_dump_json(by_alias=True), status, headers, media_type="application/json")
