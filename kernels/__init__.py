"""Compiled kernels: arrays in, arrays out. Nothing here knows about the rest of fastmaml."""
