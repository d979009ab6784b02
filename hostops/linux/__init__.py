"""What the host layer needs of Linux: processes, files, locks, namespaces. All of it is for every room.

Nothing is imported here: the programs that become game servers import single modules, and must start fast.
"""
