"""Chat: conversations and texts that a model goes on with, told token by token."""

from engine.chat.talks import Talks

__all__ = ["Talks"]
