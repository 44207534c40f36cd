"""Run the solved notebooks, derive the readers' from them, and collect the solutions.

python -m durable.lab.course [--anew] [NAME ...]

Committed outputs that say the same stay; with `--anew` all are replaced, as after a change to the drawing of figures.
"""

import sys

from durable.lab.course.build import build

if __name__ == "__main__":
    names = [word for word in sys.argv[1:] if word != "--anew"]
    build(names, anew="--anew" in sys.argv)
