"""Docker engines, by docker-py's connections."""

from service.adapters.engine.engine import DockerEngine

__all__ = ["DockerEngine"]
