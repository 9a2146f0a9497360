"""`python -m aggregator`."""

from .cli import main

main(prog_name="aggregator")
