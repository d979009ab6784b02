"""The state on disk: releases, instances made from them, their consoles and the records of their runs.

These modules are for other rooms to use.
"""

__all__ = ["config_chain", "console_files", "instance_files", "layers", "releases", "runs"]
