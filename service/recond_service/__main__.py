"""``python -m recond_service``: the commands of the server without the SDK's command line."""

from __future__ import annotations

import click

from recond_service.commands.serve import serve


@click.group()
def main() -> None:
    """Run the recond server."""


main.add_command(serve)

if __name__ == "__main__":
    main()
