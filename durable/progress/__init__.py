"""A reader's progress through the course: the checks that have passed, in one file, and the page that shows them.

It is a room of its own since the Jupyter server loads it, which needs neither the lab nor pandas.
"""
