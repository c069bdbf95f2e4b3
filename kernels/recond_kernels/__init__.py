"""Numerics of reconstruction in torch: operators, Fourier transforms, ragged coils, solvers, wavelets.

Functions take and return tensors, know nothing of models, and leave their arguments unchanged. Coils of several frames lie one
after another along the first axis ("ragged coils"); `CoilLayout` says which coil belongs to which frame.
"""
