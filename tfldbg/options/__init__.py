"""The options of commands and of the Python API, each declared once, in a group.

A group is a frozen dataclass whose fields are options.  An option has a type, a default, a
docstring for users of Python, and its spelling on the command line.
"""
