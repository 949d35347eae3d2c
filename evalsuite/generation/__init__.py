"""``evalsuite generate``: answer many conversations with many models into Parquet shards, resumable."""
