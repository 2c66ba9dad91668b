"""``python -m espnetv2`` is the program ``espnetv2``."""

from espnetv2.cli.main import main

if __name__ == "__main__":
    main()
