"""Where runs are recorded: each journal applies the same transitions."""
