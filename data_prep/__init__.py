"""One module per data source, each run as `python -m data_prep.NAME`; see README.md."""
