"""Reads the files of overlays and releases: maps, campaigns, and faults in their shape.

Packs (VPK files) come from strangers, so `pack_reader`, a child process with limits, reads their directories.
Nothing here changes an overlay or a release, or follows a link in one.
"""
