"""``python -m recond_client``: the `recond` command where it is not on the path."""

from recond_client.cli import main

if __name__ == "__main__":
    main(prog_name="recond")
