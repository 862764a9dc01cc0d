"""Server-sent events, as a service streams them: bytes in any pieces to the data of events.

Only ``data`` is looked at. Lines end with LF or CRLF; an empty line ends an event. How much of
an event that has not ended is kept is bounded.
"""

from vicinal.errors import GenerationFailed

EVENT_BYTES_MAX = 1024 * 1024
"""Ours: a token takes some hundred bytes, a whole answer in one event a few thousand."""

END = b"[DONE]"
"""The data of the last event, in OpenAI's protocol and in the platform's."""


class EventReader:
    """Reads one stream."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, part: bytes) -> list[bytes]:
        """Return the data of the events that end in `part`, in their order.

        Raises:
            GenerationFailed: an event is longer than `EVENT_BYTES_MAX`.
        """
        ended: list[bytes] = []
        first, *others = part.split(b"\n")
        self._line += first
        self._check(len(self._line))
        for other in others:
            self._end_line(bytes(self._line).removesuffix(b"\r"), ended)
            self._check(len(other))
            self._line = bytearray(other)
        return ended

    def _end_line(self, line: bytes, ended: list[bytes]) -> None:
        if not line:
            if self._data:
                ended.append(b"\n".join(self._data))
            self._data, self._size = [], 0
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value) + 1  # an empty line is kept, too

    def _check(self, more: int) -> None:
        if self._size + more > EVENT_BYTES_MAX:
            raise GenerationFailed(
                f"the service sends an event of more than {EVENT_BYTES_MAX} bytes"
            )


def event(data: bytes) -> bytes:
    """Write an event; `data` is JSON of one line, or `END`."""
    return b"data: " + data + b"\n\n"
