"""HTTP API to see, safely delete and maintain what a container registry holds."""

__version__ = "0.1.0"
