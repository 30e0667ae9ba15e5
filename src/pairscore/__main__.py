"""`python -m pairscore`: the command line."""

from pairscore.cli import main

main()
