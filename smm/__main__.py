"""`python -m smm`: the command line."""

from smm._start import start

start("python -m smm")
