"""``evalsuite mix``: from a recipe to Parquet shards."""
