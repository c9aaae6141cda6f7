"""What leaves or enters the lab: Parquet exports and imports, the report, the offline site."""
