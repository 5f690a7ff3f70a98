"""Ready-made callbacks that turn a `nightshift.programs.Run` into that of a library: one module per library.

Each module imports its library; nothing else in Nightshift imports these modules.
"""
