"""`python -m pipeline` is the `dailies` command."""

from pipeline.cli import main

if __name__ == "__main__":
    main(prog_name="dailies")
