"""The hive: gathers what nodes report, shows it, and carries commands back."""
