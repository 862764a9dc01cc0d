"""The ASGI application: the only async code."""
