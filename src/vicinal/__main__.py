"""``python -m vicinal`` is ``vicinal``."""

from vicinal.cli import main

main(prog_name="vicinal")
