"""What the host layer needs of Linux: processes, files, locks, namespaces. Every room may use all of it.

Nothing is imported here: the programs that become game servers import single modules, and must start fast.
"""
