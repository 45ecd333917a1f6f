"""Reading a source, beside it: all that travels to the other machine, and nothing else.

Python 3.9 and newer, the standard library only.
"""
