"""The error of an uploaded model that is refused."""


class ImportFault(ValueError):
    """Names the place (`model.safetensors: lm_head.weight`), what is wrong there, and the mend."""

    def __init__(self, code: str, place: str, message: str, mend: str) -> None:
        super().__init__(f"{place}: {message}; {mend}")
        self.code, self.place, self.message, self.mend = code, place, message, mend


_SHOWN = 80


def shown(value: object) -> str:
    """Return untrusted text, or any value, for a quotation in a message: printable and short."""
    text = value if isinstance(value, str) else repr(value)
    plain = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return plain if len(plain) <= _SHOWN else plain[:_SHOWN] + "…"
