"""Durable operations: waiting, children, races, sagas, transactions, patches, publishing."""
