"""The supervisor of a trainer, and the fence that it puts around it.

They run as a process of their own, without this package and its dependencies: standard library only.
"""
