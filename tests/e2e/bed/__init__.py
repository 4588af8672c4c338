"""The real parts that end-to-end tests run on: engine, registries, clients, database, service."""
