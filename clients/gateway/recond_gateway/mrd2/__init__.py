"""MRD version 2 (yardl) streams as the messages of version 1, and images back: by the pinned package mrd-python."""
