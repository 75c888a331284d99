"""
Readers of the journal that show or deliver what is committed. docs/extending.md has the contract of a sink.

stdout          prints each batch (`mpsr hub --print`)
"""
