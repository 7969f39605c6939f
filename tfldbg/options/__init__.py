"""The options of commands and of the Python API: each is declared once, in a group.

A group is a frozen dataclass.  A field of it is an option: it has a type, a default, a docstring
for users of Python, and its spelling on the command line.
"""
