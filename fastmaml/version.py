"""The version, said once: setuptools reads it from here, and so does a clone nobody installed."""

__all__ = ["__version__"]

__version__ = "0.1.0"
