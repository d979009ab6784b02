"""What the files of overlays and releases are: maps, campaigns, and what is wrong with their shape.

Packs (VPK files) come from strangers: their directories are read by `pack_reader`, a child process with limits.
Nothing here changes an overlay or a release, and nothing follows a link in one.
"""
