"""A module to change, and suites that notice it, do not, and fail anyway."""
