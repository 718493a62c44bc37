"""Every speed claim of the project, measured: ``make bench``.

A benchmark is a file in this folder with a ``BENCHMARK``: it is found by existing. ``harness`` times, counts and prints;
``peers`` holds what others do today, written as well as it can be. Before two things are timed against each other, they are
checked for giving the same numbers.
"""
