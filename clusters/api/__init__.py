"""Clusters, nodes and grants over HTTP; what a page can do, a program can."""
