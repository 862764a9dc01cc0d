"""``vicinal mcp``: the indexes of a server as tools for agents, over the Model Context Protocol."""

import importlib.metadata
import importlib.util
import socket

import click

from vicinal.cli import show
from vicinal.cli.client import Target, target_options
from vicinal.cli.completion import index_names

PATH = "/mcp"
SHUTDOWN_S = 5  # ours: for calls under way; streams that agents listen to end at once


@click.command("mcp")
@click.option("--write", "writes", is_flag=True, help="Add tools that store texts and delete.")
@click.option(
    "--index",
    "indexes",
    multiple=True,
    shell_complete=index_names,
    help="Only this index; may be repeated. All if not given.",
)
@click.option("--http", "by_http", is_flag=True, help="Serve HTTP instead of standard input.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8791,
    show_default=True,
    help="Port of --http, on loopback; 0 takes a free one.",
)
@target_options
def command(
    target: Target, writes: bool, indexes: tuple[str, ...], by_http: bool, port: int
) -> None:
    """Give agents the indexes of a running server as tools (MCP).

    Tools list and describe indexes, search by text or vector with filters, and read vectors;
    with --write they store texts and delete, too. Agents start this command and talk to it by
    its standard input; with --http they use http://127.0.0.1:8791/mcp.
    """
    if importlib.util.find_spec("mcp") is None:
        raise click.ClickException("this needs mcp; install it with: pip install 'vicinal[mcp]'")
    from vicinal.cli import agent_tools

    with target.connect() as client:
        tools = agent_tools.AgentTools(client, indexes)
        version = importlib.metadata.version("vicinal")
        server = agent_tools.server_of(tools, version, writes=writes)
        if by_http:
            _serve(server, port)
        else:
            server.run("stdio")


def _serve(server: "object", port: int) -> None:
    """Serve on loopback, to programs and not to web pages, until interrupted."""
    import uvicorn
    from mcp.server.mcpserver import MCPServer
    from mcp.server.transport_security import TransportSecuritySettings

    assert isinstance(server, MCPServer)
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on 127.0.0.1 port {port}: {error.strerror}; --port names another"
        ) from error
    with listener:
        number = listener.getsockname()[1]
        app = server.streamable_http_app(
            streamable_http_path=PATH,
            transport_security=TransportSecuritySettings(
                allowed_hosts=[f"127.0.0.1:{number}", f"localhost:{number}"], allowed_origins=[]
            ),
        )
        show.note(f"tools for agents are at http://127.0.0.1:{number}{PATH}")
        config = uvicorn.Config(
            app, log_level="warning", lifespan="on", timeout_graceful_shutdown=SHUTDOWN_S
        )
        uvicorn.Server(config).run([listener])
