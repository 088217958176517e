"""The base class of all parts of a spec, and the types of their fields."""

from collections import Counter
from functools import cache
from typing import Annotated, Any, Literal, get_args

from annotated_types import MaxLen
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, StringConstraints, model_validator

Auto = Literal["auto"]


class Part(BaseModel):
    """A piece of a spec: frozen, and strict about names (an unknown key is an error)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _each_value_once(cls, given: Any) -> Any:
        """Refuse a value under two names, and `true` for a number (pydantic reads it as 1, YAML makes it of `yes`)."""
        for name, field in cls.model_fields.items() if isinstance(given, dict) else ():
            alias = field.validation_alias
            known = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [name]
            named = [choice for choice in known if choice in given]
            if len(named) > 1:
                raise ValueError(f"{' and '.join(named)} are one value, given twice; leave one of them out")
            most = _most_items(cls, name)
            if named and most is not None and isinstance(given[named[0]], list) and len(given[named[0]]) > most:
                # Before the items are validated: each may be wrong, and their errors take memory.
                raise ValueError(f"{named[0]} has {len(given[named[0]]):,} items; at most {most:,} are taken")
            if (
                named
                and isinstance(given[named[0]], bool)
                and bool not in {field.annotation, *get_args(field.annotation)}
            ):
                raise ValueError(f"{named[0]} must not be true or false")
        return given


@cache
def _most_items(part: type[Part], name: str) -> int | None:
    """Return the limit on the length of the list in a field."""
    return next((limit.max_length for limit in part.model_fields[name].metadata if isinstance(limit, MaxLen)), None)


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("a NUL character cannot be stored; remove it")
    return text


def check_steps(name: str, steps: float) -> None:
    """Raise ValueError if a value is neither a share of all steps, below 1, nor a whole number of them."""
    if steps >= 1 and not float(steps).is_integer():
        raise ValueError(f"{name} is {steps:g}; from 1 on it is a number of steps and must be whole")


def _once(lines: tuple[int, ...]) -> tuple[int, ...]:
    twice = [line for line, count in Counter(lines).items() if count > 1]
    if twice:
        raise ValueError(f"line {twice[0]} is named twice; once is enough")
    return lines


Text = Annotated[str, AfterValidator(_storable)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""Names an artifact; it appears in URLs, never in paths."""
Reference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,199}$")]
"""`name`, `name/version`, `name@alias`, or the id of a model, adapter or checkpoint."""
StartingPoint = Annotated[Reference, Field(validation_alias=AliasChoices("model", "continue_from"))]
"""The model, adapter or checkpoint that training starts from; `continue_from` is an alias."""
FileId = Annotated[str, StringConstraints(pattern=r"^file-[A-Za-z0-9]{1,64}$")]
Lines = Annotated[tuple[Annotated[int, Field(ge=1, strict=True)], ...], AfterValidator(_once)]
"""Line numbers of a file, from 1; only integers, not true or "17"."""
ModulePattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,128}$")]
