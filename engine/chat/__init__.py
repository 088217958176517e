"""Chat: conversations and texts that a model goes on with, told token by token."""

from engine.chat.answer import chat, complete

__all__ = ["chat", "complete"]
