"""The sub-commands of `hive`, one module each, imported when called."""
