"""The hive's HTTP API. `routes` is all of it on one screen."""
