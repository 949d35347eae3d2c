"""Results in the forms that other tools and pages read: tables, items in Parquet, the hub's files, shared JSON."""
