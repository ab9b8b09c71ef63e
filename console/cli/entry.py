"""The door of the script `pointsman`: whatever happens before and after a command ends in silence and an exit code.

I/O: signals, stdout, stderr.
"""

from __future__ import annotations

import gc
import os
import sys
from signal import SIG_DFL, SIGINT, default_int_handler, pthread_kill, signal
from threading import Timer, main_thread
from typing import Any

COLLECT_AT = 100_000
"""Objects made and not yet gone before the youngest are looked at; Python's 700 are for programs that load little."""
AGAIN_S = 0.02


def main() -> int:
    """Runs the command line of this process; gives its exit code."""
    # Ctrl-C while modules are loaded, and while the interpreter winds up: an end, and not a traceback. What a command
    # starts is started in between.
    signal(SIGINT, SIG_DFL)
    sys.unraisablehook = tell_again
    hold_standard_numbers()
    gc.disable()  # what is loaded stays: to look for garbage in it takes a tenth of the time
    from console.cli.main import run  # noqa: PLC0415  not before the lines above

    gc.freeze()
    gc.set_threshold(COLLECT_AT)  # a command loads its part when it runs
    gc.enable()

    try:
        signal(SIGINT, default_int_handler)
        return int(run(sys.argv[1:]))
    except KeyboardInterrupt:
        return 130  # between two lines of the above
    finally:
        signal(SIGINT, SIG_DFL)
        settle()


def tell_again(lost: Any) -> None:
    """Ctrl-C that came where nothing can be raised, in a destructor or while an import lets go of its lock, is said to
    be ignored, and is: it is sent again, a moment later. All else is told as ever."""
    number = main_thread().ident
    if not issubclass(lost.exc_type, KeyboardInterrupt) or number is None:
        sys.__unraisablehook__(lost)
        return
    again = Timer(AGAIN_S, pthread_kill, (number, SIGINT))
    again.daemon = True
    again.start()


def hold_standard_numbers() -> None:
    """Opens nothing in the place of a standard stream that is closed: no socket or file may get its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def settle() -> None:
    """Writes out what is left; where nobody takes it, the interpreter must not try again and complain."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  as short as it gets
                os.dup2(nowhere.fileno(), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
