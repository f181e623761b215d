"""`python -m embodied_mem`: the same as the `embodied-mem` command."""

from embodied_mem.cli import main

main()
