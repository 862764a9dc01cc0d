"""Commands of wrangler's are known for what they are: here, on Cloudflare, or not known."""

from pathlib import Path

import pytest

from vicinal.cli.wrangler_commands import parse, wrangler_arguments


@pytest.mark.parametrize(
    "line",
    [
        *("vectorize list", "vectorize query deploy --vector -1 .5", "dev", "dev --local"),
        *("dev src/index.ts --env deploy", "pages dev ./public", "types", "whoami", "ai models"),
        *("d1 execute DB --command x", "d1 list", "d1 migrations apply DB", "check startup"),
        *("init app", "kv key put k v --binding B", "r2 object get b/k", "deploy --dry-run"),
        *(
            "versions upload --dry-run",
            "deploy --help",
            "tail -h",
            "--version",
            "",
            "-c x",
            "dev -v",
        ),
        *("dev --remote=false", "dev --no-remote", "a-command-of-next-year", "-e deploy dev"),
        *("--config deploy dev", "workflows list --local", "build", "kv:key put k v"),
    ],
)
def test_what_works_or_may_work_is_let_through(line: str) -> None:
    assert parse(line.split()).refusal() is None


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("deploy", "deploy"),
        ("deploy src/index.js --env x", "deploy"),
        ("-c wrangler.prod.json deploy", "deploy"),
        ("--env=prod --cwd dev deploy", "deploy"),
        ("-eprod deploy", "deploy"),
        ("publish", "publish"),
        ("kv namespace list", "kv namespace"),
        ("kv:namespace list", "kv namespace"),
        ("kv key put k v --remote", "kv key"),
        ("tail", "tail"),
        ("secret put X", "secret"),
        ("secret:put X", "secret"),
        ("versions list", "versions"),
        ("pages deploy ./public", "pages deploy"),
        ("pages project list", "pages project"),
        ("r2 bucket list", "r2 bucket"),
        ("r2 object get b/k --remote", "r2 object"),
        ("queues list", "queues"),
        ("login", "login"),
        ("logout", "logout"),
        ("dev --remote", "dev --remote"),
        ("dev index.js -r", "dev --remote"),
        ("d1 create x", "d1 create"),
        ("d1 time-travel info x", "d1 time-travel"),
        ("hyperdrive list", "hyperdrive"),
        ("containers list", "containers list"),
        ("ai finetune list", "ai finetune"),
    ],
)
def test_what_only_cloudflare_can_do_is_refused_by_its_name(line: str, named: str) -> None:
    refusal = parse(line.split()).refusal()

    assert refusal is not None
    assert f"`wrangler {named}`" in refusal
    assert "Cloudflare, not" in refusal
    assert "without `vicinal`" in refusal


@pytest.mark.parametrize(
    ("line", "needs"),
    [
        *[(line, True) for line in ("dev", "vectorize list", "pages dev", "whoami", "next-year")],
        *[(line, False) for line in ("", "types", "dev --help", "--version", "deploy --dry-run")],
    ],
)
def test_a_server_is_wanted_only_where_something_is_asked_of_it(line: str, needs: bool) -> None:
    assert parse(line.split()).needs_server is needs


def test_the_configuration_is_the_one_that_wrangler_would_read(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "index.ts").touch()

    def chosen(line: str) -> tuple[Path, tuple[Path, ...], str | None]:
        selection = parse(line.split()).selection(tmp_path)
        return selection.folder, selection.files, selection.environment

    assert chosen("dev") == (tmp_path, (), None)
    assert chosen("dev -e prod") == (tmp_path, (), "prod")
    assert chosen("dev --env=prod --port 8787") == (tmp_path, (), "prod")
    assert chosen("vectorize list --env=") == (tmp_path, (), "")
    assert chosen("dev -c a.json --config b/c.toml")[1] == (
        tmp_path / "a.json",
        tmp_path / "b" / "c.toml",
    )
    assert chosen("dev --cwd src -c a.json") == (
        tmp_path / "src",
        (tmp_path / "src" / "a.json",),
        None,
    )
    assert chosen("dev --port 1 src/index.ts")[0] == tmp_path / "src"
    assert chosen(f"dev {'x' * 5000}")[0] == tmp_path
    assert chosen("dev -- -e prod") == (tmp_path, (), None)

    # Variables are read where wrangler is run, wherever the script is.
    files = parse(["dev", "src/index.ts"]).selection(tmp_path).variable_files
    assert files == (tmp_path / ".env", tmp_path / ".env.local")
    line = ["dev", "--cwd", "src", "--env-file", "a", "--env-file=../b"]
    files = parse(line).selection(tmp_path).variable_files
    assert files == (tmp_path / "src" / "a", tmp_path / "src" / ".." / "b")


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("npx wrangler dev -e x", "dev -e x"),
        ("wrangler dev", "dev"),
        ("./node_modules/.bin/wrangler dev", "dev"),
        ("npx wrangler@4.86.0 dev", "dev"),
        ("pnpm exec wrangler dev", "dev"),
        ("npx vite -e x", ""),
    ],
)
def test_wrangler_is_seen_within_another_command(line: str, arguments: str) -> None:
    assert list(wrangler_arguments(line.split())) == arguments.split()
