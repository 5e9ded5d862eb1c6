"""Machines, their drift and their credentials in the API."""
