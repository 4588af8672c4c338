"""A demonstration registry with real images, and the service in front of it."""
