"""`python -m dactcli`."""

from dactcli.cli.app import main

if __name__ == "__main__":
    main()
