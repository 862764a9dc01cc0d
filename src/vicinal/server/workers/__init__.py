"""Workers: the requests of their bindings and of the tools that run them.

They come under other paths, or wrapped in other requests, and are answered by the handlers of
`api`. Must not know connections, nor how an operation is done.
"""
