"""``python -m mpibo.run``: a worker's rank serves at once; rank 0 alone loads the command and searches."""

from __future__ import annotations

from typing import NoReturn

from mpibo.engine.environment import is_worker


def main() -> NoReturn:
    """Serve, or run the search that the command line asks for."""
    if is_worker():
        from mpibo.engine.serving import serve

        serve()
    from mpibo.cli import main as search

    search(prog="python -m mpibo.run")


if __name__ == "__main__":
    main()
