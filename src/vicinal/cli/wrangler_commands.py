"""wrangler's command line: its command, its configuration, and whether a server can do it.

Nothing here runs anything. A command that only Cloudflare can answer is refused with a
sentence; one that is not known is let through, as it may work on this machine alone, and
cannot reach Cloudflare: wrangler has been told of no other server and of no real token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path

from vicinal.cli.wrangler_config import VARIABLE_FILES, ConfigSelection

_VALUED = {
    "-c": "config",
    "--config": "config",
    "-e": "env",
    "--env": "env",
    "--cwd": "cwd",
    "--env-file": "env-file",
    "--profile": "profile",
}
"""wrangler's options that have a value and may stand before the command."""

_HELP = frozenset({"-h", "--help", "-v", "--version"})

_WITHOUT_SERVER = frozenset(
    {
        *("build", "check", "complete", "docs", "init", "setup", "telemetry", "types"),
        *("d1 migrations create", "pages functions"),
    }
)
"""Commands that work on this machine alone."""

_ON_CLOUDFLARE = frozenset(
    {
        *("agent-memory", "ai finetune", "ai-search", "artifacts", "auth", "basin", "browser"),
        *("cert", "cloudchamber", "containers delete", "containers images", "containers info"),
        *("containers instances", "containers list", "containers push", "containers registries"),
        *("containers ssh", "d1 create", "d1 delete", "d1 insights"),
        *("d1 time-travel", "delete", "deploy", "deployments", "dispatch-namespace", "email"),
        *("flagship", "hyperdrive", "k2", "kv namespace", "login", "logout", "mtls-certificate"),
        *("pages deploy", "pages deployment", "pages download", "pages project", "pages publish"),
        *("pages secret", "pipelines", "preview", "publish", "pubsub", "queues", "r2 bucket"),
        *("r2 sql", "rollback", "route", "secret", "secrets-store store", "subdomain", "tail"),
        *("triggers", "tunnel", "turnstile", "versions", "vpc", "workflows"),
    }
)
"""Commands of wrangler 4.86 and 4.164, as their ``--help`` lists them, and older names."""

_HERE_OR_THERE = frozenset({"d1 export", "kv bulk", "kv key", "r2 object", "secrets-store secret"})
"""Commands on the storage of ``wrangler dev`` on this machine, or on Cloudflare with --remote."""

_ALIASES = {"kv:namespace": "kv namespace", "kv:key": "kv key", "kv:bulk": "kv bulk"}
_ALIASES |= {f"secret:{command}": "secret" for command in ("put", "delete", "list", "bulk")}


@dataclass(frozen=True, slots=True)
class WranglerCommand:
    """A command line of wrangler's.

    Attributes:
        words: The command and its arguments; values of a command's own options may be among them.
        flags: Every option, without its value.
        values: The values of the options that may stand before a command.
    """

    words: tuple[str, ...]
    flags: frozenset[str]
    values: Mapping[str, tuple[str, ...]]

    @property
    def wants_help(self) -> bool:
        """Whether wrangler only prints something about itself."""
        return not self.words or bool(_HELP & self.flags)

    @property
    def needs_server(self) -> bool:
        """Whether the command uses a server."""
        if self.wants_help or "--dry-run" in self.flags:
            return False
        return self._named(_WITHOUT_SERVER) is None

    def refusal(self) -> str | None:
        """Return why a Vicinal server cannot do it, or None when it can or may."""
        if self.wants_help or self.flags & {"--dry-run", "--local"}:
            return None
        if self.words[0] == "dev" and self.flags & {"--remote", "-r"}:
            return (
                "`wrangler dev --remote` runs the Worker on Cloudflare, not on Vicinal; leave out "
                "--remote, or run it without `vicinal`"
            )
        named = self._named(_ON_CLOUDFLARE)
        if named is None and "--remote" in self.flags:
            named = self._named(_HERE_OR_THERE)
        if named is None:
            return None
        if named in ("login", "logout", "auth"):
            return (
                f"`wrangler {named}` is for Cloudflare, not for Vicinal, whose token is that of "
                "--token or VICINAL_TOKEN; run it without `vicinal`"
            )
        return f"`wrangler {named}` runs on Cloudflare, not on Vicinal; run it without `vicinal`"

    def selection(self, folder: Path) -> ConfigSelection:
        """Return which configuration is read when wrangler is run in `folder`."""
        folder = Path(folder, *self.values.get("cwd", ())[-1:]).resolve()
        environments = self.values.get("env", ())
        files = tuple(folder / file for file in self.values.get("config", ()))
        start = folder
        if self.words[:1] == ("dev",):
            # The configuration of a script is looked for from where the script is.
            # Path.is_file raises where a word is too long to be a name.
            scripts = [folder / word for word in self.words[1:] if isfile(folder / word)]  # noqa: PTH113
            start = scripts[0].parent if scripts else folder
        named = self.values.get("env-file", VARIABLE_FILES)
        variable_files = tuple(folder / file for file in named)
        return ConfigSelection(
            start, files, environments[-1] if environments else None, variable_files
        )

    def _named(self, commands: frozenset[str]) -> str | None:
        """Return the one of `commands` that this is, or is a part of."""
        first = _ALIASES.get(self.words[0], self.words[0])
        words = (*first.split(), *self.words[1:])
        names = (" ".join(words[:count]) for count in (1, 2, 3))
        return next((name for name in names if name in commands), None)


def parse(arguments: Sequence[str]) -> WranglerCommand:
    """Read a command line of wrangler's as far as it matters here."""
    words: list[str] = []
    flags: set[str] = set()
    values: dict[str, tuple[str, ...]] = {}
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--":
            break
        if len(word) < 2 or not word.startswith("-") or word[1:2].isdigit():
            words.append(word)
            continue
        name, equals, value = word.partition("=")
        if not word.startswith("--") and len(name) > 2:
            name, equals, value = word[:2], "=", word[2:].removeprefix("=")
        # yargs takes --no-x and --x=false alike for not x.
        if not (equals and value == "false"):
            flags.add(name)
        if name in _VALUED:
            given = value if equals else (left.pop(0) if left else "")
            values[_VALUED[name]] = (*values.get(_VALUED[name], ()), given)
    return WranglerCommand(tuple(words), frozenset(flags), values)


def wrangler_arguments(command: Sequence[str]) -> Sequence[str]:
    """Return what any command line gives to wrangler: ``npx wrangler dev -e x``, if it does."""
    for position, word in enumerate(command):
        name, _, _ = Path(word).name.partition("@")
        if name in ("wrangler", "wrangler.js", "wrangler.cmd"):
            return command[position + 1 :]
    return ()
