"""`python -m smm`: the command line."""

from smm.cli import main

main(prog_name="python -m smm")
