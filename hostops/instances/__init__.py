"""What lies on the disk: releases, instances made of them, their consoles and the records of their runs.

Other rooms use these modules.
"""

__all__ = ["config_chain", "console_files", "instance_files", "layers", "releases", "runs"]
