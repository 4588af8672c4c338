"""Content by digest, kept for good: such bytes never change."""

from service.adapters.cache.content import ContentCache

__all__ = ["ContentCache"]
