"""The command line. It has no logic of its own."""

from __future__ import annotations

import sys
import traceback

EX_SOFTWARE = 70  # sysexits.h: a bug


def main() -> int:
    """Run the command that the arguments ask for, and return the exit status."""
    arguments = sys.argv[1:]
    try:
        if arguments[:1] == ["run"]:
            # Runs for months on a small machine, and so does not pay for importing typer and rich.
            from gateway.cli.run import main as run

            return run(arguments[1:])
        from gateway.cli.app import main as others

        return others(arguments)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - the outermost boundary: a bug ends with a word to the user
        traceback.print_exc()
        print(f"sensor-gateway: this is a bug: {type(error).__name__}: {error}", file=sys.stderr)
        print("Please report it, with the lines above and what `sensor-gateway --version` says.", file=sys.stderr)
        return EX_SOFTWARE
