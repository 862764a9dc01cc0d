"""The ASGI application: the only async code.

Three rooms, each of which may use those before it, and above them `app` and `routes`:

* `http`: connections, bodies and answers, whatever is asked;
* `api`: the operations, and what a request is to them;
* `workers`: what bindings of Workers and their tools send, as operations of `api`.
"""
