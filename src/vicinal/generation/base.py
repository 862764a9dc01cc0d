"""Requests to a model that generates text, its answers, and its name at the service.

No model runs here: requests go on to a service that speaks OpenAI's protocol (`openai`). The
server carries the bytes; these classes are their meaning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Raw, Struct

EVERY_OTHER = "*"
"""Stands for all models without an entry of their own."""


@dataclass(frozen=True, slots=True)
class Names:
    """Names of models at the service.

    Attributes:
        mapped: Name on our wire → name at the service; `EVERY_OTHER` stands for the rest. Empty:
            every name is sent as it is. Otherwise only requests for these models are passed on.
    """

    mapped: Mapping[str, str] = field(default_factory=dict)

    def at_service(self, model: str) -> str | None:
        """Return the model's name at the service; None if its requests are not passed on."""
        if not self.mapped:
            return model
        return self.mapped.get(model, self.mapped.get(EVERY_OTHER))

    def listed(self) -> Sequence[str]:
        """Return the names of models that are passed on, without `EVERY_OTHER`."""
        return [name for name in self.mapped if name != EVERY_OTHER]


class Options(Struct, frozen=True, omit_defaults=True):
    """Options of a request; the service chooses what is None. Raw members are in OpenAI's form."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: Raw | None = None
    response_format: Raw | None = None
    tools: Raw | None = None
    tool_choice: Raw | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request for generated text.

    Attributes:
        messages: The conversation, JSON in OpenAI's form; None if there is a `prompt`.
        prompt: Text to continue, without the model's template for conversations.
        options: Options for the service.
        is_streamed: Whether the answer comes in pieces.
        wants_json: Whether the text must be JSON; the answer is then its value.
    """

    messages: Raw | None
    prompt: str | None
    options: Options = field(default_factory=Options)
    is_streamed: bool = False
    wants_json: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model asks to call; `arguments` as the model wrote them, mostly JSON."""

    id: str
    name: str
    arguments: str


class Usage(Struct, frozen=True):
    """Tokens read and written."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `text` is None if there are only calls, `usage` if the service tells none."""

    text: str | None
    tool_calls: Sequence[ToolCall] = ()
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A piece of the call number `index`; the texts of all its pieces are joined."""

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer. `is_last`: the model has stopped; a piece with the usage may follow."""

    text: str = ""
    tool_calls: Sequence[ToolCallPart] = ()
    usage: Usage | None = None
    is_last: bool = False
