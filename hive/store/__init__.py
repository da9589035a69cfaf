"""Everything the hive keeps: the one place with SQL text."""
