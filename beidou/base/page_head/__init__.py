"""What apps above an object's own contribute to the head of its page.

Not part of ``beidou.base.admin``: apps register here in every process, also in those without pages.
"""
