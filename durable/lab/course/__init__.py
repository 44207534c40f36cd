"""The making of the course: the notebooks and their outputs, and what the lessons run and kill.

`python -m durable.lab.course` makes the readers' notebooks and all outputs from the solved ones, see `build.py`.
"""

from durable.lab import lessons

__path__ += lessons.__path__  # copies of notebooks of former versions import a lesson from here
