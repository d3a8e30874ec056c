"""Find duplicate images, exact and near, with Apache Beam.

Nothing is imported here: the help and the core must not wait for Beam.
"""

__version__ = "0.1.0"
