"""The JSON API under ``/api/v1``: thin routes over lifecycle.py, jobs.py and db/queries.py."""
