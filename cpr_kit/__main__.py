"""`python -m cpr_kit` is `cpr`."""

from cpr_kit.cli.main import main

if __name__ == "__main__":
    main()
