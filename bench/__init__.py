"""The measures: ``python -m bench [NAME …]``, one line each with its comparison in the same run."""
