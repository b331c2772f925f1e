"""The only record: tables, queries and migrations."""
