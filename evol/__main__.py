"""`python -m evol`."""

from evol.cli import main

main()
