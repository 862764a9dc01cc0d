"""Workers: the requests of their bindings and of the tools that run them.

These requests come under other paths, or wrapped in other requests, and are answered by the
handlers of `api`. This room must not know connections, nor how an operation is done.
"""
