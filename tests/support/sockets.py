"""Requests and answers byte by byte, for clients that misbehave on purpose."""

import http.client
import json
import socket
from typing import Any


def head(method: str, path: str, **headers: object) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def answer(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Read one response, as any HTTP client does."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    body = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return response.status, headers, json.loads(body) if body else None


def is_closed(connection: socket.socket) -> bool:
    """Wait until the server closes the connection, or has sent something instead."""
    return connection.recv(1) == b""
