"""The one place where adapters are built and handed to what uses them as ports."""
