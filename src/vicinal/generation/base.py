"""What is asked of a model that generates text, what it answers, and what it is called.

No model runs here: requests go on to a service that speaks OpenAI's protocol (`openai`). The
server carries the bytes; here is what they mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import UNSET, Raw, UnsetType

EVERY_OTHER = "*"
"""In place of a model's name: all that have no entry of their own."""


@dataclass(frozen=True, slots=True)
class Names:
    """What models are called at the service.

    Attributes:
        mapped: Name on our wire → name at the service; `EVERY_OTHER` stands for the rest. Empty:
            every name is sent as it is, and the service says which it has. Otherwise only these
            are passed on.
    """

    mapped: Mapping[str, str] = field(default_factory=dict)

    def at_service(self, model: str) -> str | None:
        """Return what a model is called there; None when it is not passed on."""
        if not self.mapped:
            return model
        return self.mapped.get(model, self.mapped.get(EVERY_OTHER))

    def listed(self) -> Sequence[str]:
        """Return the names that are known to be passed on."""
        return [name for name in self.mapped if name != EVERY_OTHER]


@dataclass(frozen=True, slots=True)
class Options:
    """How to generate; what is UNSET is left to the service. Raw members are in OpenAI's form."""

    max_tokens: int | UnsetType = UNSET
    temperature: float | UnsetType = UNSET
    top_p: float | UnsetType = UNSET
    top_k: int | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    frequency_penalty: float | UnsetType = UNSET
    presence_penalty: float | UnsetType = UNSET
    repetition_penalty: float | UnsetType = UNSET
    stop: Raw | UnsetType = UNSET
    response_format: Raw | UnsetType = UNSET
    tools: Raw | UnsetType = UNSET
    tool_choice: Raw | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class Request:
    """What to generate.

    Attributes:
        messages: The conversation, JSON in OpenAI's form; None when there is a `prompt`.
        prompt: To be continued as it is, without the model's template for conversations.
        options: How.
        is_streamed: Whether the answer is wanted in pieces.
        wants_json: Whether the text is to be JSON, and the answer what that means.
    """

    messages: Raw | None
    prompt: str | None
    options: Options = Options()
    is_streamed: bool = False
    wants_json: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants to be called; `arguments` is what it wrote, mostly JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What was generated. `text` is None when there are only calls, `usage` when it is not said."""

    text: str | None
    tool_calls: Sequence[ToolCall] = ()
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A piece of the call at `index`; its texts are to be joined."""

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer. `is_last` when the model has stopped; usage may follow all the same."""

    text: str = ""
    tool_calls: Sequence[ToolCallPart] = ()
    usage: Usage | None = None
    is_last: bool = False
