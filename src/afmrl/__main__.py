"""`python -m afmrl`, and so `torchrun -m afmrl`."""

from afmrl.cli.app import main

if __name__ == "__main__":
    main()
