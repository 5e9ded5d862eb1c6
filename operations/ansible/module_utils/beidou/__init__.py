"""Code that runs on the managed hosts: standard library only, Python 3.9 and later."""
