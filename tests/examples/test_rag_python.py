"""The programs of examples/rag-python answer as their README says, typed as it stands there.

Only the server's port is another, so that it can run beside anything.
"""

from pathlib import Path

import pytest

from tests.support import shell
from tests.support.documents import blocks
from tests.support.ports import free_port

pytestmark = [pytest.mark.clients, pytest.mark.usefixtures("minilm")]

README = shell.ROOT / "examples" / "rag-python" / "README.md"


def test_both_programs_print_the_answer_of_the_readme(tmp_path: Path) -> None:
    shell.checkout(tmp_path, "examples/rag-python")
    project = tmp_path / "examples" / "rag-python"
    serve, ask = [block.text for block in blocks(README) if block.language == "sh"]
    (shown,) = [block.text for block in blocks(README) if block.language == "text"]
    port = free_port()

    pull, serve = serve.splitlines()
    shell.run(pull, project, shell.environment())
    with shell.running(
        f"{serve} --port {port}", project, shell.environment(), f"http://127.0.0.1:{port}/readyz"
    ):
        printed = shell.run(ask.replace(":8790", f":{port}"), project, shell.environment())

    assert printed[printed.index("I can't") :] == 2 * shown
