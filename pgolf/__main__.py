"""`python -m pgolf`: the same as the installed command; what torchrun starts."""

from pgolf.cli import main

if __name__ == "__main__":
    main()
