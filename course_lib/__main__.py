"""The course's command line: look after the environment, the data and the trained networks.

    python -m course_lib doctor           what is there, what is missing, with its cure; status 1 if the course cannot run
    python -m course_lib fetch [NAME]     bring the data into the user's cache (20 MB, once; offline afterwards)
    python -m course_lib prepare [NAME]   fetch everything and train the networks that chapters start from (two minutes, once)

Nothing is written anywhere but in the cache: the folder that COURSE_CACHE names, or the user's cache folder. A class without a
network copies that folder from a machine that had one.
"""

import argparse
import sys

from course_lib import doctor


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status.

    Source: none, command line.  Notebook: 00_start_here.
    """
    parser = argparse.ArgumentParser(
        prog="python -m course_lib", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("doctor", help="examine this machine; exit status 1 if the course cannot run")
    fetching = commands.add_parser("fetch", help="bring data into the cache")
    fetching.add_argument("names", nargs="*", metavar="NAME", help="which assets, e.g. mnist (default: all)")
    preparing = commands.add_parser("prepare", help="fetch all data and train all networks, once")
    preparing.add_argument("names", nargs="*", metavar="NAME", help="which networks, e.g. lenet_5 (default: all)")
    preparing.add_argument("--seed", type=int, default=0, help="seed of the networks (default: 0, the one chapters use)")
    arguments = parser.parse_args(argv)
    if arguments.command == "doctor":
        return doctor.main()
    try:
        if arguments.command == "fetch":
            return _fetch(arguments.names)
        return _prepare(arguments.names, arguments.seed)
    except KeyboardInterrupt:
        print("Interrupted; what was finished stays, the rest will be done next time.", file=sys.stderr)
        return 130


def _fetch(names: list[str]) -> int:
    from course_lib import assets  # here, so that `doctor` runs without torch

    return assets.main(names)


def _prepare(names: list[str], seed: int) -> int:
    if status := _fetch([]):
        return status
    from course_lib import pretrained

    if unknown := [name for name in names if name not in pretrained.RECIPES]:
        print(f"No network is called {', '.join(unknown)}; there are {', '.join(pretrained.RECIPES)}.", file=sys.stderr)
        return 2
    for name in names or pretrained.RECIPES:
        errors = pretrained.n_test_errors(name, seed)
        print(f"{name}: ready, {errors / 100:.2f} % of the test images wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
