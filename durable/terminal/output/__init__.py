"""Texts for people and for programs: tables, errors, waits, versions, and messages about wrong use."""
