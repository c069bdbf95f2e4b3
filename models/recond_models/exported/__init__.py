"""Reconstructions exported with `torch.export`: read without running anything, run operator by operator.

`torch.export.load` is not used: it unpickles sample inputs and objects, evaluates the text of symbolic sizes, and runs Python that
it generates from the names in the file. Here a program is data: a list of calls of operators that are on a list, see `operators`.
"""
