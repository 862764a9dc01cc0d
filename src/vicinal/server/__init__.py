"""The ASGI application: the only async code.

Three rooms, each of which may use those before it, and above them `app` and `routes`:

* `http`: connections, bodies and responses of any request;
* `api`: the operations, their requests and routes;
* `workers`: requests of Workers' bindings and their tools, as operations of `api`.

All three may use `concurrency` and `offload`, which know none of them.
"""
