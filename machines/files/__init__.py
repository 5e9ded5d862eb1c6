"""Machines in CSV and XLSX files."""
