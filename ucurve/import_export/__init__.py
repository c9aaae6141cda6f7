"""Import and export: Parquet tables, the HTML report, the offline site."""
