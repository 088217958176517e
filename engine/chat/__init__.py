"""Serving of chats and completions: answers are generated in shared batches and streamed token by token."""

from engine.chat.talks import Talks

__all__ = ["Talks"]
